//! What other systems say of a connection that failed: Heroku's router. Which of its codes an outcome
//! has is left to [`Outcome::heroku`](crate::outcome::Outcome::heroku).

/// An error of Heroku's router, as <https://devcenter.heroku.com/articles/error-codes> shows its line.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HerokuError {
    /// Its code.
    pub(crate) code: &'static str,
    /// Whose socket was closed, where the line begins with that.
    pub(crate) sock: Option<&'static str>,
    /// How grave the router takes it to be.
    pub(crate) at: &'static str,
    /// Its description.
    pub(crate) desc: &'static str,
    /// The status that the router's own client gets.
    pub(crate) status: u16,
    /// Whether it takes a connection: without one there is no service time and no byte to count.
    pub(crate) connected: bool,
}

/// The errors that an outcome can be.
pub(crate) const HEROKU: &[HerokuError] = &[
    unconnected("H10", "App crashed"),
    connected("H12", "Request timeout"),
    connected("H13", "Connection closed without response"),
    connected("H17", "Poorly formatted HTTP response"),
    HerokuError {
        sock: Some("backend"),
        ..connected("H18", "Server Request Interrupted")
    },
    unconnected("H19", "Backend connection timeout"),
    unconnected("H21", "Backend connection refused"),
    HerokuError {
        sock: Some("client"),
        at: "warning",
        status: 499,
        ..connected("H27", "Client Request Interrupted")
    },
];

/// What goes with a code.
pub(crate) fn heroku(code: &str) -> Option<&'static HerokuError> {
    HEROKU.iter().find(|error| error.code == code)
}

const fn connected(code: &'static str, desc: &'static str) -> HerokuError {
    HerokuError {
        code,
        sock: None,
        at: "error",
        desc,
        status: 503,
        connected: true,
    }
}

const fn unconnected(code: &'static str, desc: &'static str) -> HerokuError {
    HerokuError {
        connected: false,
        ..connected(code, desc)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::Outcome;

    #[test]
    fn every_code_of_an_outcome_has_its_description() {
        let codes = Outcome::ALL
            .into_iter()
            .flat_map(|outcome| [outcome.heroku(true), outcome.heroku(false)])
            .flatten();
        for code in codes {
            assert!(heroku(code).is_some(), "{code}");
        }
    }
}
