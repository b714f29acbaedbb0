//! What is opened, by whom it may be, and what is left of it.

use super::*;

/// Mounts tracefs where it is not, for this thread and what it starts: so instances have paths.
fn see_tracefs() {
    const CONVENTION: &str = "/sys/kernel/tracing";
    if Path::new(CONVENTION).join("instances").exists() {
        return;
    }
    unshare(CloneFlags::CLONE_NEWNS).expect("needs root: unshare(CLONE_NEWNS)");
    for args in [
        &["--make-rprivate", "/"][..],
        &["-t", "tracefs", "tracefs", CONVENTION],
    ] {
        let mount = Command::new("mount").args(args).status().unwrap();
        assert!(mount.success(), "{args:?}");
    }
}

/// Plays a part of a test in a process of its own.
fn assert_passes(part: &mut Command) {
    let part = part.env(PART, "1").output().unwrap();
    let text = String::from_utf8_lossy(&part.stdout);
    assert!(part.status.success() && text.contains("1 passed"), "{text}");
}

#[test]
#[ignore = "needs root, tracefs"]
fn without_processes_nobody_is_followed() {
    let _alone = alone();
    let target = SocketAddr::from(([127, 0, 0, 1], 9));
    let tap = TraceTap::open(target, &[], Clock::start()).unwrap();
    assert_eq!(tap.lacks(), [""; 0]);
    assert_eq!(tap.instances.len(), 1);
    assert!(tap.able().reads && !tap.able().closings);
}

#[test]
#[ignore = "needs root, tracefs"]
fn in_another_pid_name_space_nobody_is_named() {
    const NAME: &str = "in_another_pid_name_space_nobody_is_named";
    if env::var_os(PART).is_none() {
        let _alone = alone();
        let test = this_test(&format!("instances::{NAME}"));
        let mut inside = Command::new("unshare");
        inside
            .args(["--pid", "--fork", "--mount-proc"])
            .arg(test.get_program())
            .args(test.get_args());
        assert_passes(&mut inside);
        return;
    }
    enter_namespace();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = listener.local_addr().unwrap();
    let tap = TraceTap::open(target, &[Pid::this()], Clock::start()).unwrap();
    let lacks = "this is not the initial pid name space: by tracepoints it is not seen which process did \
                 what; run probe in that one (a container's --pid=host)";
    assert_eq!(tap.lacks(), [lacks]);
    let (sender, batches) = mpsc::channel();
    let vantage = tap.read(move |batch| sender.send(batch).is_ok()).unwrap();
    let client = connect(target);
    read_request(&listener.accept().unwrap().0);
    drop(client);
    vantage.stop();
    let events: Vec<_> = batches.iter().flat_map(|batch| batch.events).collect();
    let is_read = |event: &&Traced| matches!(event.what, TracedWhat::Read { .. });
    let task = events.iter().find(is_read).expect("a read").task;
    assert_eq!((task.pid, task.comm), (None, None));
}

#[test]
#[ignore = "needs root, tracefs"]
fn who_may_not_see_tracepoints_is_told_what_it_takes() {
    const NAME: &str = "who_may_not_see_tracepoints_is_told_what_it_takes";
    if env::var_os(PART).is_none() {
        let _alone = alone();
        // The binary may lie where nobody else may go.
        let folder = tempfile::tempdir().unwrap();
        let binary = folder.path().join("test");
        fs::copy(env::current_exe().unwrap(), &binary).unwrap();
        let open = fs::Permissions::from_mode(0o755);
        fs::set_permissions(folder.path(), open).unwrap();
        let test = this_test(&format!("instances::{NAME}"));
        let nobody = ["--reuid=65534", "--regid=65534", "--clear-groups"];
        let mut inside = Command::new("setpriv");
        inside.args(nobody).arg(&binary).args(test.get_args());
        assert_passes(&mut inside);
        return;
    }
    let target = SocketAddr::from(([127, 0, 0, 1], 9));
    let Err(missing) = TraceTap::open(target, &[], Clock::start()) else {
        panic!("nobody may");
    };
    let line = missing.to_string();
    let remedy =
        "tracepoints need root outside of a container (CAP_SYS_ADMIN), and no kernel lockdown";
    assert!(line.ends_with(remedy), "{line}");
    assert!(line.contains("permi"), "{line}");
}

#[test]
#[ignore = "needs root, tracefs"]
fn instances_go_with_whoever_has_them() {
    see_tracefs();
    let _alone = alone();
    let target = SocketAddr::from(([127, 0, 0, 1], 9));
    let open = || {
        let tap = TraceTap::open(target, &[Pid::this()], Clock::start()).unwrap();
        let folders = folders(&tap);
        assert!(folders.len() == 2 && folders.iter().all(|folder| Path::new(folder).exists()));
        (tap, folders)
    };
    let gone = |folders: &[String]| folders.iter().all(|folder| !Path::new(folder).exists());

    let (tap, folders) = open();
    drop(tap);
    assert!(gone(&folders), "never read");

    let (tap, folders) = open();
    drop(tap.read(|_| true).unwrap());
    assert!(gone(&folders), "not stopped");

    let (tap, folders) = open();
    let stats = tap.read(|_| panic!("as a test")).unwrap().stop();
    assert_eq!(stats, TraceStats::default());
    assert!(gone(&folders), "panicked");
}

#[test]
#[ignore = "needs root, tracefs"]
fn what_a_killed_run_leaves_records_nothing_and_is_removed_by_the_next() {
    see_tracefs();
    let _alone = alone();
    let target = SocketAddr::from(([127, 0, 0, 1], 9));
    let open = || TraceTap::open(target, &[Pid::this()], Clock::start()).unwrap();
    if env::var_os(PART).is_some() {
        let tap = open();
        println!("\n{}", folders(&tap).join(" "));
        let mut line = String::new();
        std::io::stdin().read_line(&mut line).unwrap();
        process::exit(0);
    }
    let name = "what_a_killed_run_leaves_records_nothing_and_is_removed_by_the_next";
    let mut child = start(&mut this_test(&format!("instances::{name}")));
    let line = loop {
        let line = read_line(&mut child);
        if line.contains("/probe-") {
            break line;
        }
    };
    let left: Vec<&Path> = line.split_whitespace().map(Path::new).collect();
    assert_eq!(left.len(), 2);

    // While it lives nobody takes its instances away.
    drop(open());
    assert!(left.iter().all(|folder| folder.exists()));

    child.kill().unwrap();
    child.wait().unwrap();
    for folder in &left {
        let read = |file| fs::read_to_string(folder.join(file)).unwrap();
        assert_eq!(read("tracing_on"), "0\n");
        let kept: u64 = read("buffer_total_size_kb").trim().parse().unwrap();
        assert!(kept < 100, "{kept} KiB");
    }
    drop(open());
    assert!(left.iter().all(|folder| !folder.exists()));
}
