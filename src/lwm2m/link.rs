//! CoRE links (RFC 6690).

use std::borrow::Cow;

/// The entries of a list of links as text, as an application gets them from Discover. An empty
/// payload is one empty entry. Bytes that are no UTF-8 become U+FFFD.
pub fn entries(payload: &[u8]) -> impl Iterator<Item = Cow<'_, str>> {
    split(payload).map(String::from_utf8_lossy)
}

/// The payload cut at each comma that is neither in a target nor in a quoted value.
fn split(payload: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(payload);
    std::iter::from_fn(move || {
        let bytes = rest?;
        let end = entry_length(bytes);
        let (entry, tail) = bytes.split_at_checked(end).unwrap_or((bytes, &[]));
        rest = tail.split_first().map(|(_comma, tail)| tail);
        Some(entry)
    })
}

fn entry_length(bytes: &[u8]) -> usize {
    let mut quotes = true;
    let mut index = 0;
    let mut in_target = false;
    while let Some(byte) = bytes.get(index) {
        match byte {
            b'<' => in_target = true,
            b'>' => in_target = false,
            // A target without its `>` ends where the next one begins.
            b',' if !in_target || bytes.get(index + 1) == Some(&b'<') => return index,
            b'"' if quotes && !in_target => match quoted_length(bytes.get(index + 1..)) {
                Some(length) => index += length,
                // The closing quote is missing: this and all others here are plain characters.
                None => quotes = false,
            },
            _ => {}
        }
        index += 1;
    }
    bytes.len()
}

/// The length of a quoted string from after its first quote to and including its last.
fn quoted_length(bytes: Option<&[u8]>) -> Option<usize> {
    let mut escaped = false;
    bytes?
        .iter()
        .position(|byte| {
            let closing = *byte == b'"' && !escaped;
            escaped = *byte == b'\\' && !escaped;
            closing
        })
        .map(|position| position + 1)
}
