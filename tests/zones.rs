//! IPv6 addresses that hold on one link: their zone is an interface's name.

mod common;

use common::namespace::Namespace;
use common::{enter_namespace, rows, run, run_probe_with, stderr};

#[test]
#[ignore = "needs root, netns"]
fn a_link_local_address_is_reached_and_listened_on_by_its_interfaces_name() {
    enter_namespace();
    let there = Namespace::linked();
    let address = |ip: &'static str, link: &'static str| ["addr", "add", ip, "dev", link, "nodad"];
    run("ip", &address("fe80::1/64", "near"));
    there.run("ip", &address("fe80::2/64", "far"));
    let serve = [
        env!("CARGO_BIN_EXE_probe"),
        "serve",
        "--listen",
        "[fe80::2%far]:9000",
    ];
    let command = there.command(&serve.map(str::to_owned));
    for engine in ["socket", "raw"] {
        let options = format!(
            "--engine {engine} --target [fe80::2%near]:9000 -n 5 --signal none --format csv"
        );
        let output = run_probe_with(&options, &command);
        let rows = rows(&output.stdout);
        assert_eq!(rows.len(), 5, "{}", stderr(&output));
        for row in rows {
            let said = (&*row["outcome"], &*row["dst_addr"], &*row["caveats"]);
            assert_eq!(said, ("served", "fe80::2", ""), "{row:?}");
        }
    }
}
