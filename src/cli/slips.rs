//! Slips of the tongue, each with its remedy: a target without its option, a URL for a target, a
//! server's command without `--` before it, a command misspelt or behind its options.

use std::ffi::OsString;

use clap::Command;
use clap::error::{ContextKind, ErrorKind};

use super::{Request, Slip};

/// Looks for a word that is neither an option nor an option's value.
pub(super) fn find(root: &Command, words: &[OsString]) -> Option<Slip> {
    if let Some((name, command)) = chosen(root, words) {
        let taken = command.get_positionals().count();
        let stray = stray_words(command, words.get(1..)?).nth(taken)?;
        return Some(Slip(stray_behind(name, &stray)));
    }
    let stray = stray_words(root, words).next()?;
    Some(Slip(if let Some(authority) = url_authority(&stray) {
        format!(
            "a target has no scheme or path; give --target {authority}, and the path with --path"
        )
    } else if looks_like_target(&stray) {
        format!("`{stray}` looks like the target; give it as --target {stray}")
    } else if root.find_subcommand(&stray).is_some() {
        format!("put `{stray}` before its options: probe {stray} [OPTIONS]")
    } else if let Some(near) = nearest_command(root, &stray) {
        format!(
            "there is no command `{stray}`; did you mean `probe {near}`? (a server's command goes \
             behind `--`)"
        )
    } else {
        format!("put `--` before the server's command: probe [OPTIONS] -- {stray} ...")
    }))
}

/// Ties a negative value to the option before it, whose it is: clap would take it for an option.
pub(super) fn with_negative_values(root: &Command, words: &[OsString]) -> Vec<OsString> {
    let command = chosen(root, words).map_or(root, |(_, command)| command);
    let is_negative = |word: &str| {
        let mut letters = word.chars();
        letters.next() == Some('-') && letters.next().is_some_and(|c| c.is_ascii_digit())
    };
    let mut tied: Vec<OsString> = Vec::new();
    let mut takes_next = false;
    for word in words {
        let text = word.to_string_lossy();
        match tied.last_mut() {
            Some(option) if takes_next && is_negative(&text) => {
                option.push("=");
                option.push(word);
                takes_next = false;
            }
            _ => {
                let is_option = !takes_next && text.starts_with('-');
                takes_next = is_option && takes_next_word(command, &text) == Some(true);
                tied.push(word.clone());
            }
        }
    }
    tied
}

/// The command that the first word names.
fn chosen<'a>(root: &'a Command, words: &[OsString]) -> Option<(&'a str, &'a Command)> {
    let command = root.find_subcommand(words.first()?)?;
    Some((command.get_name(), command))
}

/// What to do about a word behind a command that takes options alone.
fn stray_behind(name: &str, stray: &str) -> String {
    match name {
        "serve" if looks_like_target(stray) => {
            format!("`{stray}` looks like an address; give it as --listen {stray}")
        }
        "compare" => format!("`probe compare` takes a run and a capture; leave out `{stray}`"),
        "read" => format!("`probe read` reads one capture at a time; leave out `{stray}`"),
        "matrix" => format!(
            "`probe matrix` takes one folder of scenarios; leave out `{stray}`, or choose rows with \
             --only {stray}"
        ),
        "demo" => format!(
            "`probe demo` brings its own server and takes options only; leave out `{stray}`, or \
             leave out `demo`"
        ),
        _ => format!(
            "`probe {name}` takes options only; leave out `{stray}` (`probe {name} --help` lists \
             them)"
        ),
    }
}

/// A command that differs by a letter or two.
fn nearest_command<'a>(root: &'a Command, word: &str) -> Option<&'a str> {
    const CLOSE: usize = 2;
    root.get_subcommands()
        .map(|command| {
            (
                strsim::damerau_levenshtein(command.get_name(), word),
                command,
            )
        })
        .filter(|&(distance, _)| distance <= CLOSE)
        .min_by_key(|&(distance, _)| distance)
        .map(|(_, command)| command.get_name())
}

/// What `--target URL` should have been.
pub(crate) fn url_authority(text: &str) -> Option<String> {
    let (scheme, rest) = text.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
    let authority = authority.rsplit('@').next().unwrap_or(authority);
    let has_port = authority
        .rsplit_once(':')
        .is_some_and(|(_, port)| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()));
    let port = if scheme.eq_ignore_ascii_case("https") {
        443
    } else {
        80
    };
    Some(if has_port {
        authority.to_owned()
    } else {
        format!("{authority}:{port}")
    })
}

fn looks_like_target(word: &str) -> bool {
    word.rsplit_once(':').is_some_and(|(host, port)| {
        !host.is_empty() && !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit())
    })
}

/// The words that no option takes, up to an option that is unknown, which is clap's to say.
fn stray_words<'a>(
    command: &'a Command,
    words: &'a [OsString],
) -> impl Iterator<Item = String> + 'a {
    let mut words = words.iter();
    std::iter::from_fn(move || {
        while let Some(word) = words.next() {
            let word = word.to_string_lossy();
            if !word.starts_with('-') || word == "-" {
                return Some(word.into_owned());
            }
            if takes_next_word(command, &word)? {
                words.next();
            }
        }
        None
    })
}

/// Whether the word behind this option is its value; none where the option is unknown, which is
/// clap's to say.
fn takes_next_word(command: &Command, word: &str) -> Option<bool> {
    if let Some(long) = word.strip_prefix("--") {
        let name = long.split('=').next()?;
        let arg = command
            .get_arguments()
            .find(|a| a.get_long() == Some(name))?;
        return Some(arg.get_action().takes_values() && !long.contains('='));
    }
    // Short options may be bundled: the first that takes a value takes the rest, or the next word.
    let mut letters = word.chars().skip(1);
    while let Some(letter) = letters.next() {
        let arg = command
            .get_arguments()
            .find(|a| a.get_short() == Some(letter))?;
        if arg.get_action().takes_values() {
            return Some(letters.next().is_none());
        }
    }
    Some(false)
}

/// Makes one sentence with a remedy of what clap found, or prints the help that was asked for.
pub(super) fn explain(
    error: clap::Error,
    root: &Command,
    words: &[OsString],
) -> Result<Request, Slip> {
    if matches!(
        error.kind(),
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion
    ) {
        // A reader that has gone away needs no help.
        let _ = error.print();
        return Ok(Request::Printed);
    }
    let us = chosen(root, words).map_or("probe".to_owned(), |(name, _)| format!("probe {name}"));
    let context = |kind| error.get(kind).map(ToString::to_string).unwrap_or_default();
    let arg = context(ContextKind::InvalidArg);
    let option = arg.split(' ').next().unwrap_or_default();
    Err(Slip(match error.kind() {
        ErrorKind::UnknownArgument => {
            let near = context(ContextKind::SuggestedArg);
            if let Some(owners) = owners(root, option) {
                format!("`{us}` has no {option}; it is an option of {owners}")
            } else if near.is_empty() {
                format!("there is no option `{arg}`; `{us} --help` lists them")
            } else {
                format!("there is no option `{arg}`; did you mean `{near}`?")
            }
        }
        ErrorKind::ValueValidation => {
            let reason =
                std::error::Error::source(&error).map_or_else(String::new, ToString::to_string);
            format!("{option}: {reason}")
        }
        ErrorKind::InvalidValue if context(ContextKind::InvalidValue).is_empty() => {
            format!("{option} needs a value; give it as {arg}")
        }
        ErrorKind::InvalidValue => format!(
            "{option}: `{}` is not possible; give one of {}",
            context(ContextKind::InvalidValue),
            context(ContextKind::ValidValue)
        ),
        ErrorKind::ArgumentConflict => {
            let prior = context(ContextKind::PriorArg);
            let prior = prior.split(' ').next().unwrap_or_default();
            if prior == option {
                format!("{option} may be given once only; leave one out")
            } else {
                format!("{option} and {prior} exclude each other; leave one out")
            }
        }
        ErrorKind::MissingRequiredArgument => {
            // Several are joined by commas.
            let needed = first_word(&arg).trim_end_matches(',');
            match needing(needed, words) {
                _ if needed.starts_with('<') => {
                    format!("`{us}` needs a {needed}; `{us} --help` shows how")
                }
                Some(option) => format!("{option} needs {needed} too; add it"),
                None => format!("{needed} is needed here too; add it"),
            }
        }
        _ => first_line(&error.to_string(), &us),
    }))
}

/// Which of the options typed makes another one necessary, which clap does not tell.
fn needing(needed: &str, words: &[OsString]) -> Option<&'static str> {
    [
        ("--rate", "--duration"),
        ("--payload", "--expect-bytes"),
        ("--trigger", "--trigger-at"),
    ]
    .into_iter()
    .find(|&(what, by)| {
        let is_typed = |word: &OsString| word.to_string_lossy().starts_with(by);
        what == needed && words.iter().any(is_typed)
    })
    .map(|(_, by)| by)
}

fn first_word(text: &str) -> &str {
    text.split(' ').next().unwrap_or(text)
}

/// The commands that have an option which this one has not.
fn owners(root: &Command, option: &str) -> Option<String> {
    let name = option.strip_prefix("--")?.split('=').next()?;
    let has = |command: &Command| {
        let mut visible = command.get_arguments().filter(|arg| !arg.is_hide_set());
        visible.any(|arg| arg.get_long() == Some(name))
    };
    let plain = has(root).then(|| "plain `probe`".to_owned());
    let others = root
        .get_subcommands()
        .filter(|command| has(command))
        .map(|command| format!("`probe {}`", command.get_name()));
    let owners: Vec<String> = plain.into_iter().chain(others).collect();
    match owners.as_slice() {
        [] => None,
        [only] => Some(only.clone()),
        [others @ .., last] => Some(format!("{} and {last}", others.join(", "))),
    }
}

fn first_line(text: &str, us: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    let line = line.strip_prefix("error: ").unwrap_or(line);
    format!("{line}; see `{us} --help`")
}
