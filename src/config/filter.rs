//! Topic filters of MQTT.

/// Whether a text is a topic filter (MQTT 5 section 4.7.1).
pub(crate) fn is_filter(filter: &str) -> bool {
    let mut levels = filter.split('/').peekable();
    while let Some(level) = levels.next() {
        let fine = match level {
            "#" => levels.peek().is_none(),
            "+" => true,
            _ => !level.contains(['+', '#']),
        };
        if !fine {
            return false;
        }
    }
    true
}

/// Whether a topic, or what is below a mountpoint of it, matches a filter.
pub(crate) fn matches_filter(filter: &str, topic: &str) -> bool {
    // `None` behind the last level.
    let mut rest = Some(topic);
    for level in filter.split('/') {
        if level == "#" {
            return true;
        }
        let Some(topic) = rest else {
            return false;
        };
        // A literal level is compared where it stands, without a search for the end of a long one.
        let behind = match level {
            "+" => topic.find('/').and_then(|end| topic.get(end..)),
            level => match topic.strip_prefix(level) {
                Some(behind) if behind.is_empty() || behind.starts_with('/') => Some(behind),
                _ => return false,
            },
        };
        rest = behind.and_then(|behind| behind.strip_prefix('/'));
    }
    rest.is_none()
}
