//! What is sent on a connection. A template is cut at `{conn}` once and rendered for each connection;
//! what is told of a request is read from those very bytes.

use std::borrow::Cow;
use std::sync::Arc;

/// The placeholder for the connection's number.
const CONN: &str = "{conn}";

/// A request, connection numbers still to be filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Template {
    /// The bytes between the places where the number goes.
    parts: Arc<[Vec<u8>]>,
}

/// What is told of a request, as text; empty where it has none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Head {
    /// Its method.
    pub(crate) method: String,
    /// Its path, or whatever else stands for the resource.
    pub(crate) path: String,
    /// The Host header's value.
    pub(crate) host: String,
    /// The X-Request-Id header's value.
    pub(crate) request_id: String,
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
        Template {
            parts: [bytes].into(),
        }
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

    /// What is told of the request of connection `conn`.
    pub(crate) fn head(&self, conn: u64) -> Head {
        Head::read(&self.bytes(conn))
    }

    /// The request of connection `conn`; a file is not copied for it.
    fn bytes(&self, conn: u64) -> Cow<'_, [u8]> {
        if let [whole] = &self.parts[..] {
            return Cow::Borrowed(whole);
        }
        let mut bytes = Vec::new();
        self.render(conn, &mut bytes);
        Cow::Owned(bytes)
    }
}

impl Head {
    /// Reads a request's lines up to the empty one (RFC 9112 2.1). Of a header that stands there
    /// twice the first is told; of a request that a file cuts short, what there is.
    fn read(request: &[u8]) -> Head {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes.trim_ascii()).into_owned();
        let mut lines = request
            .split(|&b| b == b'\n')
            .map(|line| line.strip_suffix(b"\r").unwrap_or(line))
            // RFC 9112 2.2: empty lines before the request line are passed over.
            .skip_while(|line| line.is_empty());
        let mut words = lines.next().unwrap_or_default().split(|&b| b == b' ');
        let mut word = || words.next().map_or_else(String::new, text);
        let (method, path) = (word(), word());
        let headers: Vec<(&[u8], &[u8])> = lines
            .take_while(|line| !line.is_empty())
            .filter_map(|line| {
                let colon = line.iter().position(|&b| b == b':')?;
                Some((&line[..colon], &line[colon + 1..]))
            })
            .collect();
        let header = |wanted: &str| {
            let is_it = |(name, _): &&(&[u8], &[u8])| name.eq_ignore_ascii_case(wanted.as_bytes());
            let found = headers.iter().find(is_it);
            found.map_or_else(String::new, |(_, value)| text(value))
        };
        Head {
            method,
            path,
            host: header("Host"),
            request_id: header("X-Request-Id"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn template(path: &str, headers: &[(String, String)]) -> Template {
        Template::generated(&Generated {
            method: "GET",
            path,
            host: "[::1]:9292",
            headers,
            run_id: "r1",
        })
    }

    fn generate(headers: &[(String, String)]) -> String {
        let mut out = Vec::new();
        template("/items/{conn}?x={conn}", headers).render(42, &mut out);
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

    /// What an HTTP parser makes of the bytes that are sent.
    fn parsed(template: &Template, conn: u64) -> Head {
        let mut sent = Vec::new();
        template.render(conn, &mut sent);
        let mut headers = [httparse::EMPTY_HEADER; 16];
        let mut request = httparse::Request::new(&mut headers);
        assert!(request.parse(&sent).unwrap().is_complete());
        let header = |name: &str| {
            let found = request
                .headers
                .iter()
                .find(|header| header.name.eq_ignore_ascii_case(name));
            found.map_or(String::new(), |header| {
                String::from_utf8_lossy(header.value).into_owned()
            })
        };
        Head {
            method: request.method.unwrap().to_owned(),
            path: request.path.unwrap().to_owned(),
            host: header("Host"),
            request_id: header("X-Request-Id"),
        }
    }

    #[test]
    fn a_generated_request_is_told_by_its_number() {
        let template = template("/items/{conn}?x={conn}", &[]);
        let head = template.head(42);
        assert_eq!(head, parsed(&template, 42));
        assert_eq!(
            [head.method, head.path, head.host, head.request_id],
            ["GET", "/items/42?x=42", "[::1]:9292", "r1-42"]
        );
    }

    #[test]
    fn a_request_from_a_file_is_told_by_its_own_lines() {
        let file = "\r\nPOST /a{conn} HTTP/1.1\nHOST:  b \r\nhost: c\r\nContent-Length: 19\r\n\r\n\
                    X-Request-Id: body\n";
        let template = Template::verbatim(file.as_bytes().to_vec());
        let head = template.head(7);
        assert_eq!(head, parsed(&template, 7));
        assert_eq!(
            [head.method, head.path, head.host, head.request_id],
            ["POST", "/a{conn}", "b", ""]
        );
    }

    #[test]
    fn of_a_request_cut_short_what_there_is_is_told() {
        let head = Template::verbatim(b"GET /slow HTTP/1.1\r\nHost: a\r\nX-Re".to_vec()).head(1);
        assert_eq!(
            [head.method, head.path, head.host, head.request_id],
            ["GET", "/slow", "a", ""]
        );
    }

    proptest! {
        #[test]
        fn what_is_told_is_what_is_sent(
            path in "/([!-~]|\\{conn\\}){0,20}",
            name in "Host|host|X-Request-Id|x-request-ID|X",
            value in "([!-~]([ -~]|\\{conn\\}|é){0,20}[!-~])?",
            conn: u64,
        ) {
            let template = template(&path, &[(name, value)]);
            prop_assert_eq!(template.head(conn), parsed(&template, conn));
        }
    }
}
