//! The pure rooms stay pure: they import no system room and nothing of the standard library that
//! reads a clock, opens a file or a socket, or starts anything.
#![expect(clippy::disallowed_methods, reason = "a test that reads the sources")]

use std::fs;
use std::path::{Path, PathBuf};

/// Where values go in and values come out.
const PURE: &[&str] = &[
    "wire",
    "flow",
    "http",
    "sequence",
    "outcome",
    "event",
    "kernel",
    "cause",
    "record",
    "summary",
    "reconcile",
    "connect/raw/engine",
];

/// What they may take from the crate besides each other: a type that is a number of nanoseconds.
const SHARED: &[&str] = &["time"];

const FORBIDDEN: &[&str] = &[
    "Clock",
    "std::fs",
    "std::process",
    "std::thread",
    "std::env",
    "std::io",
    "std::sync",
    "Instant",
    "SystemTime",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "socket2",
    "nix::",
    "libc::",
    "rustix",
    "procfs",
    "unsafe ",
];

fn sources(room: &str) -> Vec<PathBuf> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = vec![src.join(format!("{room}.rs"))];
    let mut folders = vec![src.join(room)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten() {
            let path = entry.expect("a readable folder").path();
            if path.is_dir() {
                folders.push(path);
            } else {
                files.push(path);
            }
        }
    }
    files
}

/// The lines of a file that are code.
fn code(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).expect("a source file");
    let lines = text.lines().map(str::trim);
    lines
        .filter(|line| !line.starts_with("//"))
        .map(str::to_owned)
        .collect()
}

#[test]
fn pure_rooms_import_no_system_room() {
    for room in PURE {
        for path in sources(room) {
            for line in code(&path) {
                let Some(rest) = line.split("crate::").nth(1) else {
                    continue;
                };
                let to: String = rest
                    .chars()
                    .take_while(|c| c.is_ascii_alphanumeric() || *c == '_')
                    .collect();
                let known = PURE.contains(&to.as_str()) || SHARED.contains(&to.as_str());
                assert!(known, "{}: {line}", path.display());
            }
        }
    }
}

#[test]
fn pure_rooms_touch_no_system() {
    for room in PURE {
        for path in sources(room) {
            for line in code(&path) {
                for word in FORBIDDEN {
                    assert!(!line.contains(word), "{}: {line}", path.display());
                }
            }
        }
    }
}

#[test]
fn unsafe_lives_in_sys_alone() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut rooms: Vec<String> = fs::read_dir(src)
        .unwrap()
        .map(|entry| {
            entry
                .unwrap()
                .path()
                .file_stem()
                .unwrap()
                .to_string_lossy()
                .into_owned()
        })
        .filter(|room| room != "sys")
        .collect();
    rooms.sort();
    rooms.dedup();
    for room in rooms {
        for path in sources(&room).iter().filter(|path| path.exists()) {
            for line in code(path) {
                let found = line.contains("unsafe {") || line.contains("unsafe fn");
                assert!(!found, "{}: {line}", path.display());
            }
        }
    }
}
