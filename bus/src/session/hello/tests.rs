use proptest::prelude::*;

use super::*;

fn hello() -> Hello {
    Hello {
        protocol: PROTOCOL,
        features: 0x0102_0304_0506_0708,
        abi: 0x1112_1314_1516_1718,
        id: 0x2122_2324_2526_2728,
        pid: 0x3132_3334,
        role: Role::Accept,
        bus: "mall".into(),
        node: "shop".into(),
    }
}

/// The layout as bytes: other versions read it, so it must not change by accident.
#[test]
fn the_layout_is_fixed() {
    let mut want = b"SHMBUS\r\n\x01\0\0\0".to_vec();
    want.extend([8, 7, 6, 5, 4, 3, 2, 1]);
    want.extend([0x18, 0x17, 0x16, 0x15, 0x14, 0x13, 0x12, 0x11]);
    want.extend([0x28, 0x27, 0x26, 0x25, 0x24, 0x23, 0x22, 0x21]);
    want.extend([0x34, 0x33, 0x32, 0x31, 1]);
    want.extend(b"\x04mall\x04shop");
    assert_eq!(hello().encode(), want);
    assert_eq!(Hello::decode(&want), Ok(hello()));

    let refusal = Verdict::refuse(Code::Abi, "no");
    assert_eq!(refusal.encode(), b"SHMBUSV\n\x03\x02\0no");
    assert_eq!(Verdict::Welcome.encode(), b"SHMBUSV\n\0\0\0");
}

#[test]
fn every_flaw_has_its_name() {
    let good = hello().encode();
    let with = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        Hello::decode(&bytes).unwrap_err()
    };
    assert_eq!(with(0, b's'), HelloError::Magic);
    assert_eq!(with(6, b'\n'), HelloError::Magic);
    assert_eq!(with(8, 2), HelloError::Version { theirs: 2 });
    assert_eq!(with(40, 2), HelloError::Role(2));
    assert_eq!(with(41, 0), HelloError::Name("bus"));
    assert_eq!(with(42, b'.'), HelloError::Name("bus"));
    assert_eq!(with(47, 0xff), HelloError::Name("node"));
    assert_eq!(with(46, 5), HelloError::Short("node"));
    assert_eq!(with(46, 3), HelloError::Long(1));
    assert_eq!(Hello::decode(b""), Err(HelloError::Magic));
    assert_eq!(Hello::decode(&Verdict::Welcome.encode()), Err(HelloError::Magic));
    for len in 0..good.len() {
        assert!(Hello::decode(&good[..len]).is_err(), "{len}");
    }
    // Of another version nothing but the version is read, whatever else it looks like.
    assert_eq!(
        Hello::decode(b"SHMBUS\r\n\x02\0\0\0"),
        Err(HelloError::Version { theirs: 2 })
    );
}

#[test]
fn every_verdict_comes_back() {
    for byte in 1..=255 {
        let code = Code::from_byte(byte);
        assert_eq!(code.to_byte(), byte);
        assert_eq!(matches!(code, Code::Other(_)), byte > 9, "{byte}");
        let verdict = Verdict::refuse(code, "because");
        assert_eq!(Verdict::decode(&verdict.encode()), Ok(verdict));
    }
    assert_eq!(Verdict::decode(&Verdict::Welcome.encode()), Ok(Verdict::Welcome));
    let longer = [&Verdict::Welcome.encode()[..], b"no"].concat();
    assert_eq!(Verdict::decode(&longer), Err(HelloError::Long(2)));
    for code in Code::NAMED {
        assert_eq!(Code::from_byte(code.to_byte()), code);
    }
}

#[test]
fn a_long_text_is_cut_between_characters() {
    let long = "x".repeat(TEXT_MAX - 1) + "\u{e9}\u{e9}";
    let cut = Verdict::Refused(Code::Full, "x".repeat(TEXT_MAX - 1));
    assert_eq!(Verdict::refuse(Code::Full, &long), cut);
    assert_eq!(
        Verdict::decode(&Verdict::Refused(Code::Full, long).encode()),
        Ok(cut)
    );

    let mut over = b"SHMBUSV\n\x01\x01\x02".to_vec();
    over.resize(11 + 0x0201, b'x');
    assert_eq!(Verdict::decode(&over), Err(HelloError::Text));
    assert_eq!(
        Verdict::decode(b"SHMBUSV\n\x01\x01\x00\xff"),
        Err(HelloError::Text)
    );
}

/// The constant is compared between builds; this build is what rkyv's default features give.
#[test]
fn the_abi_is_that_of_rkyv_here() {
    let archived = rkyv::to_bytes::<rkyv::rancor::Error>(&1u64).unwrap();
    assert_eq!(ABI & 1, u64::from(archived[0] == 0), "byte order");
    assert_eq!(ABI >> 8 & 0xff, 4, "32-bit relative pointers");
    assert_eq!(ABI >> 16 & 0xff, 8, "aligned integers");
}

proptest! {
    #[test]
    fn hellos_round_trip(
        (features, abi, id, pid) in any::<(u64, u64, u64, u32)>(),
        dial in any::<bool>(),
        bus in "[a-z0-9_-]{1,64}",
        node in "[A-Z][a-z.]{0,63}",
    ) {
        let role = if dial { Role::Dial } else { Role::Accept };
        let hello = Hello { protocol: PROTOCOL, features, abi, id, pid, role, bus, node };
        prop_assert_eq!(Hello::decode(&hello.encode()), Ok(hello));
    }

    #[test]
    fn any_bytes_are_judged(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = Hello::decode(&bytes);
        let _ = Verdict::decode(&bytes);
    }

    #[test]
    fn damaged_packets_are_judged_and_what_passes_is_canonical(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        len in any::<prop::sample::Index>(),
        whole in any::<bool>(),
    ) {
        for packet in [hello().encode(), Verdict::refuse(Code::Full, "at its limit").encode()] {
            let mut bytes = packet;
            for (at, byte) in &damage {
                let at = at.index(bytes.len());
                bytes[at] = *byte;
            }
            if !whole {
                bytes.truncate(len.index(bytes.len()));
            }
            if let Ok(hello) = Hello::decode(&bytes) {
                prop_assert_eq!(hello.encode(), bytes);
            } else if let Ok(verdict @ Verdict::Refused(..)) = Verdict::decode(&bytes) {
                prop_assert_eq!(verdict.encode(), bytes);
            }
        }
    }
}
