//! Forms of values, right and wrong.

use proptest::prelude::*;
use serde_json::json;

use super::*;

const YEAR: Duration = Duration::from_secs(366 * 86_400);

fn read_duration(value: Value) -> Parsed<Duration> {
    duration(&value, Duration::ZERO, YEAR)
}

#[test]
fn durations() {
    for (form, millis) in [
        (json!("22s"), 22_000),
        (json!("5m"), 300_000),
        (json!("1h30m"), 5_400_000),
        (json!("1h 30m"), 5_400_000),
        (json!("500ms"), 500),
        (json!("2d"), 172_800_000),
        (json!(22), 22_000),
        (json!(0.25), 250),
        (json!("90"), 90_000),
        (json!("0s"), 0),
    ] {
        assert_eq!(
            read_duration(form.clone()),
            Ok(Duration::from_millis(millis)),
            "{form}"
        );
    }
    for form in [
        json!(""),
        json!("s"),
        json!("5 minutes"),
        json!("-5s"),
        json!(-5),
        json!("5x"),
        json!("5s5"),
        json!(true),
        json!(["5s"]),
        json!("99999999999999999999s"),
        json!("18446744073709551615w"),
        json!("NaN"),
        json!("5µs"),
    ] {
        assert!(read_duration(form.clone()).is_err(), "{form}");
    }
    assert_eq!(
        read_duration(json!("10000d")).unwrap_err(),
        "240000h is out of range 0s to 8784h"
    );
}

#[test]
fn sizes() {
    let read = |value: Value| bytes(&value, 1, 1 << 31);
    for (form, size) in [
        (json!("4MB"), 4 << 20),
        (json!("64KB"), 64 << 10),
        (json!("1 GB"), 1 << 30),
        (json!("512"), 512),
        (json!("512b"), 512),
        (json!(77), 77),
    ] {
        assert_eq!(read(form.clone()), Ok(size), "{form}");
    }
    for form in [
        json!("4XB"),
        json!("MB"),
        json!("-1"),
        json!(-1),
        json!(1.5),
        json!(""),
        json!("99999999999999GB"),
        json!(0),
    ] {
        assert!(read(form.clone()).is_err(), "{form}");
    }
}

#[test]
fn addresses() {
    let any = IpAddr::from([0, 0, 0, 0]);
    let local = IpAddr::from([127, 0, 0, 1]);
    let read = |value: Value, default| address(&value, default).map(|a| a.to_string());
    assert_eq!(read(json!(5683), any).unwrap(), "0.0.0.0:5683");
    assert_eq!(read(json!("5683"), any).unwrap(), "0.0.0.0:5683");
    assert_eq!(read(json!(1883), local).unwrap(), "127.0.0.1:1883");
    assert_eq!(read(json!(":1883"), local).unwrap(), "0.0.0.0:1883");
    assert_eq!(read(json!("10.0.0.1:1"), any).unwrap(), "10.0.0.1:1");
    assert_eq!(read(json!("[::]:5683"), any).unwrap(), "[::]:5683");
    for form in [
        json!(70_000),
        json!(-1),
        json!("1.2.3:5"),
        json!("127.0.0.1"),
        json!(":"),
        json!(true),
    ] {
        assert!(address(&form, any).is_err(), "{form}");
    }
    assert!(
        address(&json!("localhost:5683"), any)
            .unwrap_err()
            .contains("host name")
    );
}

#[test]
fn auto_observe_forms() {
    assert_eq!(auto_observe(&json!(true)), Ok(AutoObserve::All));
    assert_eq!(auto_observe(&json!("off")), Ok(AutoObserve::Off));
    let paths = AutoObserve::Paths(vec!["/3/0/9".parse().unwrap(), "/3303".parse().unwrap()]);
    assert_eq!(auto_observe(&json!("/3/0/9, /3303")), Ok(paths.clone()));
    assert_eq!(auto_observe(&json!(["/3/0/9", "/3303"])), Ok(paths));
    for wrong in [
        json!(["/x"]),
        json!("/3,"),
        json!(5),
        json!(["/"]),
        json!([3]),
    ] {
        assert!(auto_observe(&wrong).is_err(), "{wrong}");
    }
}

#[test]
fn formats() {
    for (form, number) in [
        (json!("tlv"), 11542),
        (json!("senml-cbor"), 112),
        (json!(112), 112),
        (json!("60"), 60),
    ] {
        let fixed = FormatDefault::Fixed(ContentFormat(number));
        assert_eq!(format(&form), Ok(fixed), "{form}");
        assert_eq!(format(&json!(show_format(fixed))), Ok(fixed));
    }
    assert_eq!(format(&json!("auto")), Ok(FormatDefault::Auto));
    for wrong in [json!("xml"), json!(""), json!(65000), json!(1.5), json!([])] {
        assert!(format(&wrong).unwrap_err().contains("tlv"), "{wrong}");
    }
}

#[test]
fn paths_of_series() {
    let read = |value: Value| series_paths(&value).map(|paths| format!("{paths:?}"));
    assert_eq!(read(json!("/3303, 3/0/9")).unwrap(), "[/3303, /3/0/9]");
    assert_eq!(read(json!([])).unwrap(), "[]");
    assert!(read(json!(["/x/1"])).is_ok() && read(json!(["/3/x"])).is_err());
    assert!(read(json!({})).is_err());

    let mapping = series_mapping(&json!({"3303/0/5700": "temperature"})).unwrap();
    let known: Path = "/3303/0/5700".parse().unwrap();
    assert_eq!(mapping.get(&known).map(String::as_str), Some("temperature"));
    for wrong in [
        json!({"/3303": "x"}),
        json!({"/3303/0/5700": ""}),
        json!({"/3303/0/5700": 1}),
        json!({"/a/b/c": "x"}),
        json!({"/3303/0/5700": "a", "3303/0/5700": "b"}),
        json!({"/3303/0/5700": "x".repeat(257)}),
        json!([]),
    ] {
        assert!(series_mapping(&wrong).is_err(), "{wrong}");
    }
}

proptest! {
    #[test]
    fn shown_durations_and_sizes_read_back(millis in 0u64..1 << 34, size in 1usize..1 << 40) {
        let duration = Duration::from_millis(millis);
        prop_assert_eq!(read_duration(json!(show_duration(duration))), Ok(duration));
        prop_assert_eq!(bytes(&json!(show_bytes(size)), 0, usize::MAX), Ok(size));
    }

    #[test]
    fn no_text_makes_a_parser_panic(text in "\\PC{0,24}") {
        let value = json!(text);
        let _ = read_duration(value.clone());
        let _ = bytes(&value, 0, usize::MAX);
        let _ = address(&value, IpAddr::from([0, 0, 0, 0]));
        let _ = auto_observe(&value);
    }
}
