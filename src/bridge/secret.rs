//! Secrets, told by the words of a name.

/// A name with one of these words names a secret.
const WORDS: [&str; 29] = [
    "apikey",
    "auth",
    "authentication",
    "authorization",
    "bearer",
    "cred",
    "credential",
    "credentials",
    "creds",
    "jwt",
    "key",
    "keys",
    "otp",
    "pass",
    "passcode",
    "passphrase",
    "passwd",
    "password",
    "passwords",
    "pin",
    "pincode",
    "psk",
    "puk",
    "pwd",
    "secret",
    "secrets",
    "token",
    "tokens",
    "totp",
];

/// A word that ends with one of these does, too: `authtoken`. No other word does.
const ENDINGS: [&str; 8] = [
    "apikey",
    "credential",
    "credentials",
    "passphrase",
    "passwd",
    "password",
    "secret",
    "token",
];

/// Whether a name is that of a secret, by its words: it is split at everything that is no letter
/// and where a capital begins a word. So `my_password`, `authToken`, `APIKey`, `pin` and `key2` are
/// secrets, `sleepinterval`, `keepalive` and `monkey` are not.
pub(crate) fn is_secret(name: &str) -> bool {
    words(name).any(|word| {
        let is_word = |known: &str| known.eq_ignore_ascii_case(word);
        WORDS.iter().any(|known| is_word(known)) || ENDINGS.iter().any(|end| ends_with(word, end))
    })
}

fn ends_with(word: &str, end: &str) -> bool {
    let start = word.len().checked_sub(end.len());
    start
        .and_then(|start| word.get(start..))
        .is_some_and(|tail| tail.eq_ignore_ascii_case(end))
}

/// The words of a name; none is empty.
fn words(name: &str) -> impl Iterator<Item = &str> {
    name.split(|c: char| !c.is_alphabetic())
        .flat_map(|part| Capitals { rest: part })
}

/// Splits `userPIN` into `user` and `PIN`, `APIKey` into `API` and `Key`.
struct Capitals<'a> {
    rest: &'a str,
}

impl<'a> Iterator for Capitals<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let mut before: Option<char> = None;
        let mut chars = self.rest.char_indices().peekable();
        let mut end = self.rest.len();
        while let Some((at, c)) = chars.next() {
            let after = chars.peek().map(|(_, c)| *c);
            let begins = c.is_uppercase()
                && before.is_some_and(|before| {
                    !before.is_uppercase() || after.is_some_and(char::is_lowercase)
                });
            if begins {
                end = at;
                break;
            }
            before = Some(c);
        }
        let (word, rest) = self.rest.split_at_checked(end)?;
        self.rest = rest;
        (!word.is_empty()).then_some(word)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn secrets_by_the_words_of_a_name() {
        for name in [
            "password",
            "Password",
            "PASSWORD",
            "my_password",
            "my-password",
            "my.password",
            "myPassword",
            "mypassword",
            "password2",
            "auth_token",
            "authToken",
            "AuthToken",
            "authtoken",
            "access-token",
            "api_key",
            "apiKey",
            "APIKey",
            "apikey",
            "key",
            "private.key",
            "pin",
            "PIN",
            "simPin",
            "simPIN",
            "sim.pin",
            "PINCode",
            "psk",
            "pskIdentity",
            "pwd",
            "userPwd",
            "user_pass",
            "passwd",
            "passphrase",
            "client_secret",
            "clientSecret",
            "credential",
            "credentials",
            "jwt",
            "authorization",
            "x-auth",
            "étéKey",
        ] {
            assert!(is_secret(name), "{name}");
        }
        for name in [
            "",
            "_",
            "ep",
            "lt",
            "b",
            "lwm2m",
            "imei",
            "imsi",
            "sms",
            "Q",
            "sleepinterval",
            "sleepInterval",
            "keepalive",
            "keepAlive",
            "monkey",
            "spinner",
            "pinned",
            "author",
            "compass",
            "passage",
            "bypass",
            "tokenizer",
            "secretary",
            "keyboard",
            "turkey",
            "mapping",
            "apn",
            "et",
        ] {
            assert!(!is_secret(name), "{name}");
        }
    }

    #[test]
    fn names_are_split_into_words() {
        for (name, expected) in [
            ("authToken", vec!["auth", "Token"]),
            ("APIKey", vec!["API", "Key"]),
            ("a1b2_C.D-e", vec!["a", "b", "C", "D", "e"]),
            ("simPIN", vec!["sim", "PIN"]),
            ("__", vec![]),
        ] {
            assert_eq!(words(name).collect::<Vec<_>>(), expected, "{name}");
        }
    }

    proptest! {
        #[test]
        fn a_word_for_a_secret_counts_wherever_it_stands(
            before in "[a-z]{0,8}", after in "[a-z]{0,8}",
            word in prop::sample::select(&WORDS[..]), separator in "[-_.]",
        ) {
            let word = word.to_owned();
            let capital = word[..1].to_uppercase() + &word[1..];
            let last = after.get(..1).map_or_else(String::new, str::to_uppercase);
            let camel = format!("{before}{capital}{last}{}", after.get(1..).unwrap_or_default());
            prop_assert!(is_secret(&camel), "{}", camel);
            let name = format!("{before}{separator}{word}{separator}{after}");
            prop_assert!(is_secret(&name), "{}", name);
            prop_assert!(is_secret(&name.to_uppercase()), "{}", name);
        }

        #[test]
        fn no_name_makes_it_panic(name in any::<String>()) {
            let length: usize = words(&name).map(str::len).sum();
            prop_assert!(length <= name.len());
            is_secret(&name);
        }
    }
}
