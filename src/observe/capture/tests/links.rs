use super::build::{IPV4, IPV6, ethernet};
use super::*;

fn link(number: u32) -> Link {
    Link::from_number(number).unwrap()
}

/// `ip` behind `header`, as the link type's frame; its wire length is 100 more than was captured.
fn finds(number: u32, header: &[u8], ip: &[u8]) -> bool {
    let frame = [header, ip].concat();
    let expected = Content::Ip {
        bytes: ip,
        len: ip.len() + 100,
    };
    // A frame cut within its link header is never more than another frame.
    for cut in 0..=header.len() {
        assert_eq!(link(number).content(&frame[..cut], 100), Content::Other);
    }
    link(number).content(&frame, frame.len() + 100) == expected
}

#[test]
fn ethernet_with_any_number_of_vlan_tags() {
    let tags: [&[u8]; 5] = [
        b"\x08\0",
        b"\x81\0\0\x05\x08\0",
        b"\x88\xa8\0\x05\x81\0\0\x06\x08\0",
        b"\x91\0\0\x05\x91\0\0\x06\x08\0",
        b"\x91\0\0\x05\x81\0\0\x06\x81\0\0\x07\x08\0",
    ];
    for tags in tags {
        assert!(finds(1, &ethernet(tags, b""), IPV4), "{tags:02x?}");
    }
    assert!(finds(1, &ethernet(b"\x86\xdd", b""), IPV6));
    let arp = ethernet(b"\x08\x06", IPV4);
    assert_eq!(link(1).content(&arp, arp.len()), Content::Other);
}

fn cooked_v1(kind: u8, hardware: u16, protocol: u16) -> Vec<u8> {
    let [high, low] = hardware.to_be_bytes();
    let header = [0, kind, high, low, 0, 6, 1, 2, 3, 4, 5, 6, 0, 0];
    [&header[..], &protocol.to_be_bytes()].concat()
}

fn cooked_v2(kind: u8, hardware: u16, protocol: u16) -> Vec<u8> {
    let [high, low] = hardware.to_be_bytes();
    let header = [0, 0, 0, 0, 0, 1, high, low, kind, 6, 1, 2, 3, 4, 5, 6, 0, 0];
    [&protocol.to_be_bytes(), &header[..]].concat()
}

#[test]
fn linux_cooked_of_both_versions() {
    for kind in 0..=4 {
        assert!(finds(113, &cooked_v1(kind, 1, 0x0800), IPV4));
        assert!(finds(276, &cooked_v2(kind, 1, 0x86dd), IPV6));
    }
    let tag = b"\0\x05\x08\0";
    assert!(finds(
        113,
        &[&cooked_v1(0, 1, 0x8100)[..], tag].concat(),
        IPV4
    ));
    assert!(finds(
        276,
        &[&cooked_v2(0, 1, 0x8100)[..], tag].concat(),
        IPV4
    ));
    // A socket between processes: netlink's ARPHRD type with its family for a protocol.
    let netlink = [&cooked_v1(4, 824, 0)[..], IPV4].concat();
    assert_eq!(link(113).content(&netlink, 100), Content::Other);
}

#[test]
fn what_loopback_sends_is_the_second_copy_of_what_it_receives() {
    for (number, header) in [
        (113, cooked_v1 as fn(u8, u16, u16) -> Vec<u8>),
        (276, cooked_v2),
    ] {
        let sent = [&header(4, 772, 0x0800)[..], IPV4].concat();
        assert_eq!(link(number).content(&sent, 100), Content::Duplicate);
        assert!(finds(number, &header(0, 772, 0x0800), IPV4));
        assert!(finds(number, &header(4, 1, 0x0800), IPV4), "no loopback");
    }
}

#[test]
fn raw_ip_goes_by_its_version() {
    for number in [12, 14, 101] {
        assert!(finds(number, b"", IPV4));
        assert!(finds(number, b"", IPV6));
        assert_eq!(link(number).content(b"\x15", 1), Content::Other);
    }
    assert!(finds(228, b"", IPV4));
    assert!(finds(229, b"", IPV6));
}

#[test]
fn bsd_loopback_in_both_byte_orders() {
    for number in [0, 108] {
        assert!(finds(number, b"\x02\0\0\0", IPV4));
        assert!(finds(number, b"\0\0\0\x02", IPV4));
        for family in [10, 24, 28, 30] {
            assert!(finds(number, &[family, 0, 0, 0], IPV6));
            assert!(finds(number, &[0, 0, 0, family], IPV6));
        }
        let apple_talk = [&[16, 0, 0, 0], IPV4].concat();
        assert_eq!(link(number).content(&apple_talk, 12), Content::Other);
    }
}
