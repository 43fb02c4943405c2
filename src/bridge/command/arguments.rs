//! The arguments of Execute (LwM2M Core 1.2 §6.3.5): `arg *("," arg)`, where an argument is one
//! digit, alone or with a text: `2`, `0='http://example.org/fw'`.

use crate::bridge::refusal::{Fault, Reason};

/// Checks arguments; none at all is fine.
pub(super) fn check(arguments: &str) -> Result<(), Fault> {
    let mut rest = arguments.as_bytes();
    if rest.is_empty() {
        return Ok(());
    }
    loop {
        let [b'0'..=b'9', after @ ..] = rest else {
            return Err(bad());
        };
        rest = match after {
            [b'=', b'\'', text @ ..] => {
                let end = text.iter().position(|byte| !is_char(*byte));
                match end.and_then(|end| text.get(end..)) {
                    Some([b'\'', after @ ..]) => after,
                    _ => return Err(bad()),
                }
            }
            _ => after,
        };
        rest = match rest {
            [] => return Ok(()),
            [b',', next @ ..] => next,
            _ => return Err(bad()),
        };
    }
}

/// `CHAR`: printable ASCII but the space, both quotes and the backslash.
const fn is_char(byte: u8) -> bool {
    matches!(byte, b'!' | 0x23..=0x26 | 0x28..=0x5b | 0x5d..=0x7e)
}

fn bad() -> Fault {
    Fault::new(
        Reason::BadArguments,
        "expected digits separated by commas, each optionally with a value, such as 2,0='text'; compat.execute_arguments = \"pass\" allows any text",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn arguments_of_the_specification() {
        for fine in [
            "",
            "5",
            "2,7",
            "2='10.3'",
            "7,0='https://www.oma.org',1",
            "0,1,2,3,4,5,6,7,8,9",
            "3=''",
            "3='a,b=[]{}~!#$%&()*'",
        ] {
            assert!(check(fine).is_ok(), "{fine}");
        }
        for wrong in [
            "reboot now",
            ",",
            "1,",
            ",1",
            "12",
            "1 ,2",
            "1=",
            "1=2",
            "1='",
            "1='a",
            "1='a'b",
            "1='a b'",
            "1='a\"'",
            "1='a\\'",
            "1='é'",
            "x",
            "1;2",
            "1=''1",
            " ",
            "-1",
        ] {
            assert!(check(wrong).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn what_the_grammar_makes_is_taken(
            arguments in "[0-9](='[!#-&(-\\[\\]-~]{0,9}')?(,[0-9](='[!#-&(-\\[\\]-~]{0,9}')?){0,5}"
        ) {
            prop_assert!(check(&arguments).is_ok());
            let (comma, space) = (format!("{arguments},"), format!("{arguments} "));
            prop_assert!(check(&comma).is_err() && check(&space).is_err());
        }

        #[test]
        fn any_text(text in "[0-9=',a ]{0,12}|\\PC{0,16}") {
            let _ = check(&text);
        }
    }
}
