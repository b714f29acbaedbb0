//! A small reader of logfmt, as Heroku's router writes it: `key=value` and `key="quoted value"`.

use std::iter::Peekable;
use std::str::Chars;

/// The pairs of a text, in their order. It ends the test where the text is no logfmt.
pub(crate) fn pairs(text: &str) -> Vec<(String, String)> {
    let mut rest = text.chars().peekable();
    let mut pairs = Vec::new();
    while rest.peek().is_some() {
        let key: String = rest.by_ref().take_while(|&c| c != '=').collect();
        assert!(
            !key.is_empty() && key.chars().all(|c| c.is_ascii_lowercase() || c == '_'),
            "`{key}` is no key: {text}"
        );
        let value = match rest.next_if_eq(&'"') {
            Some(_) => quoted(&mut rest),
            None => bare(&mut rest),
        };
        pairs.push((key, value));
        assert!(matches!(rest.next(), None | Some(' ')), "{text}");
    }
    pairs
}

fn bare(rest: &mut Peekable<Chars<'_>>) -> String {
    let mut value = String::new();
    while let Some(c) = rest.next_if(|&c| c != ' ') {
        assert!(c != '"' && c != '=' && c.is_ascii_graphic(), "bare {c:?}");
        value.push(c);
    }
    value
}

fn quoted(rest: &mut Peekable<Chars<'_>>) -> String {
    let mut value = String::new();
    loop {
        match rest.next().expect("a closing quote") {
            '"' => return value,
            '\\' => value.push(escaped(rest)),
            c => value.push(c),
        }
    }
}

fn escaped(rest: &mut Peekable<Chars<'_>>) -> char {
    match rest.next().expect("what is escaped") {
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'u' => {
            let digits: String = rest.by_ref().take(4).collect();
            let code = u32::from_str_radix(&digits, 16).expect("four digits");
            char::from_u32(code).expect("a character")
        }
        c => {
            assert!(c == '"' || c == '\\', "\\{c}");
            c
        }
    }
}
