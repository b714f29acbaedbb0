//! What is sent on a connection. A template is cut at `{conn}` once and rendered for each connection.

/// The placeholder for the connection's number.
const CONN: &str = "{conn}";

/// A request, connection numbers still to be filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Template {
    /// The bytes between the places where the number goes.
    parts: Vec<Vec<u8>>,
}

/// The parts of a generated request.
#[derive(Clone, Debug)]
pub(crate) struct Generated<'a> {
    pub(crate) method: &'a str,
    pub(crate) path: &'a str,
    pub(crate) host: &'a str,
    pub(crate) headers: &'a [(String, String)],
    pub(crate) run_id: &'a str,
}

impl Template {
    /// Bytes sent as they are, by `--request` and `--payload`.
    pub(crate) fn verbatim(bytes: Vec<u8>) -> Template {
        Template { parts: vec![bytes] }
    }

    /// One HTTP/1.1 request that asks for its connection to be closed. A header given replaces the
    /// generated one of its name.
    pub(crate) fn generated(request: &Generated<'_>) -> Template {
        let defaults = [
            ("Host", request.host.to_owned()),
            (
                "User-Agent",
                concat!("probe/", env!("CARGO_PKG_VERSION")).to_owned(),
            ),
            ("Accept", "*/*".to_owned()),
            ("X-Request-Id", format!("{}-{CONN}", request.run_id)),
            ("Connection", "close".to_owned()),
        ];
        let given = |name: &str| {
            request
                .headers
                .iter()
                .any(|(given, _)| given.eq_ignore_ascii_case(name))
        };
        let mut text = format!("{} {} HTTP/1.1\r\n", request.method, request.path);
        for (name, value) in defaults.iter().filter(|(name, _)| !given(name)) {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        for (name, value) in request.headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        text.push_str("\r\n");
        Template {
            parts: text
                .split(CONN)
                .map(|part| part.as_bytes().to_vec())
                .collect(),
        }
    }

    /// Appends the request of connection `conn` to `out`.
    pub(crate) fn render(&self, conn: u64, out: &mut Vec<u8>) {
        let mut number = None;
        for (i, part) in self.parts.iter().enumerate() {
            if i > 0 {
                let number = number.get_or_insert_with(|| conn.to_string());
                out.extend_from_slice(number.as_bytes());
            }
            out.extend_from_slice(part);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generate(headers: &[(String, String)]) -> String {
        let template = Template::generated(&Generated {
            method: "GET",
            path: "/items/{conn}?x={conn}",
            host: "[::1]:9292",
            headers,
            run_id: "r1",
        });
        let mut out = Vec::new();
        template.render(42, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_connections_number_goes_where_it_is_asked_for() {
        let text = generate(&[]);
        assert!(
            text.starts_with("GET /items/42?x=42 HTTP/1.1\r\nHost: [::1]:9292\r\n"),
            "{text}"
        );
        assert!(text.contains("\r\nX-Request-Id: r1-42\r\n"), "{text}");
        assert!(text.ends_with("\r\nConnection: close\r\n\r\n"), "{text}");
    }

    #[test]
    fn a_header_given_replaces_the_generated_one() {
        let text = generate(&[("host".to_owned(), "example.test".to_owned())]);
        assert!(!text.contains("Host: [::1]"), "{text}");
        assert!(text.contains("host: example.test\r\n"), "{text}");
    }

    #[test]
    fn verbatim_bytes_are_left_alone() {
        let mut out = Vec::new();
        Template::verbatim(b"PING {conn}\n".to_vec()).render(7, &mut out);
        assert_eq!(out, b"PING {conn}\n");
    }
}
