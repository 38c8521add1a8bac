//! Descriptors that come with a frame, and the sizes that the frame says: too few, too many, of other things.

use std::{
    fs::File,
    os::fd::{AsFd, OwnedFd},
};

use nix::{
    fcntl::{FcntlArg, OFlag, SealFlag, fcntl},
    sys::memfd::{MFdFlags, memfd_create},
};
use shmbus::fuzz::peer::{self, Memory};

use super::{
    Expect::{Closed, Harmless},
    Row,
};
use crate::peer::{RETURNS, Rig, SLOTS, Stage};

fn unsealed(bytes: u64) -> OwnedFd {
    let fd = memfd_create("wild", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING).unwrap();
    nix::unistd::ftruncate(&fd, bytes as i64).unwrap();
    fd
}

fn half_sealed(bytes: u64) -> OwnedFd {
    let fd = unsealed(bytes);
    let seals = SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL;
    fcntl(&fd, FcntlArg::F_ADD_SEALS(seals)).unwrap();
    fd
}

fn null() -> OwnedFd {
    File::open("/dev/null").unwrap().into()
}

fn file(bytes: u64) -> OwnedFd {
    let file = tempfile::tempfile().unwrap();
    file.set_len(bytes).unwrap();
    file.into()
}

fn pipe() -> OwnedFd {
    nix::unistd::pipe2(OFlag::O_NONBLOCK | OFlag::O_CLOEXEC)
        .unwrap()
        .1
}

pub fn descriptors() -> Vec<Row> {
    let bytes = peer::link_bytes(SLOTS, RETURNS);
    let offer = move |rig: &Rig| peer::link(7, rig.port, SLOTS, RETURNS, bytes);
    // A link of which one descriptor is another.
    let link = move |value: &'static str, expect, change: fn(&Rig) -> Vec<OwnedFd>| {
        Row::new(
            Stage::Session,
            ("descriptors", "Link"),
            value,
            expect,
            move |rig| {
                let fds = change(rig);
                rig.send_with(&offer(rig), &fds);
            },
        )
    };
    // A link whose frame says another thing.
    let sizes = move |value: &'static str, expect, (slots, returns, bytes): (u32, u32, u64)| {
        Row::new(Stage::Session, ("sizes", "Link"), value, expect, move |rig| {
            let packet = peer::link(7, rig.port, slots, returns, bytes);
            // With a header that says the same, where there is room for one.
            let memory = Memory::link(SLOTS, RETURNS);
            memory.store(1, u64::from(slots) | u64::from(returns) << 32);
            let [_, bell, eventfd] = rig.half();
            rig.send_with(&packet, &[memory.fd(), bell, eventfd]);
        })
    };
    let segment = |value: &'static str, expect, said: u64, make: fn() -> Vec<OwnedFd>| {
        Row::new(
            Stage::Session,
            ("descriptors", "Segment"),
            value,
            expect,
            move |rig| {
                let fds = make();
                rig.send_with(&peer::segment(0, said), &fds);
            },
        )
    };
    fn other(rig: &Rig, at: usize, fd: OwnedFd) -> Vec<OwnedFd> {
        let mut half: Vec<_> = rig.half().into();
        half[at] = fd;
        half
    }
    const LINK: u64 = peer_link_bytes();
    vec![
        link("honest", Harmless("linked"), |rig| rig.half().into()),
        link("none", Closed("with 0 descriptors"), |_| vec![]),
        link("two", Closed("with 2 descriptors"), |_| vec![null(), null()]),
        link("four", Closed("with 4 descriptors"), |_| {
            vec![null(), null(), null(), null()]
        }),
        link("five", Closed("more descriptors than allowed"), |_| {
            (0..5).map(|_| null()).collect()
        }),
        link("sixteen", Closed("more descriptors than allowed"), |_| {
            (0..16).map(|_| null()).collect()
        }),
        link("segment: a device", Closed("not a memfd"), |rig| {
            other(rig, 0, null())
        }),
        link("segment: a file", Closed("refused"), |rig| {
            other(rig, 0, file(LINK))
        }),
        link("segment: a pipe", Closed("not a memfd"), |rig| {
            other(rig, 0, pipe())
        }),
        link("segment: unsealed", Closed("not sealed"), |rig| {
            other(rig, 0, unsealed(LINK))
        }),
        link("segment: half sealed", Closed("not sealed"), |rig| {
            other(rig, 0, half_sealed(LINK))
        }),
        link("segment: too small", Closed("size is not"), |rig| {
            other(rig, 0, Memory::new(4096).fd())
        }),
        link("segment: no header", Closed("another layout"), |rig| {
            other(rig, 0, Memory::new(LINK as usize).fd())
        }),
        link("bell: too small", Closed("size is not"), |rig| {
            other(rig, 1, Memory::new(64).fd())
        }),
        link("bell: unsealed", Closed("not sealed"), |rig| {
            other(rig, 1, unsealed(4096))
        }),
        link("eventfd: a pipe", Closed("eventfd is refused"), |rig| {
            other(rig, 2, pipe())
        }),
        link("eventfd: a file", Closed("eventfd is refused"), |rig| {
            other(rig, 2, file(8))
        }),
        link("eventfd: a memfd", Closed("eventfd is refused"), |rig| {
            other(rig, 2, unsealed(8))
        }),
        link("eventfd: blocking", Closed("non-blocking"), |rig| {
            let flags = nix::sys::eventfd::EfdFlags::EFD_CLOEXEC;
            other(
                rig,
                2,
                nix::sys::eventfd::EventFd::from_flags(flags).unwrap().into(),
            )
        }),
        sizes("no slots", Closed("rings' sizes"), (0, RETURNS, bytes)),
        sizes("three slots", Closed("rings' sizes"), (3, RETURNS, bytes)),
        sizes(
            "slots of another size",
            Closed("rings' sizes"),
            (32, RETURNS, bytes),
        ),
        sizes(
            "2^30 slots",
            Closed("rings' sizes"),
            (1 << 30, RETURNS, peer::link_bytes(1 << 30, RETURNS)),
        ),
        sizes("no returns", Closed("rings' sizes"), (SLOTS, 0, bytes)),
        sizes(
            "four returns",
            Closed("rings' sizes"),
            (SLOTS, 4, peer::link_bytes(SLOTS, 4)),
        ),
        sizes("other bytes", Closed("rings' sizes"), (SLOTS, RETURNS, u64::MAX)),
        Row::new(
            Stage::Session,
            ("sizes", "Link"),
            "no such port",
            Harmless("refused, with a frame"),
            |rig| {
                let packet = peer::link(7, 4711, SLOTS, RETURNS, rig.memory.bytes());
                rig.send_with(&packet, &rig.half());
            },
        ),
        Row::new(
            Stage::Session,
            ("descriptors", "Linked"),
            "not asked",
            Harmless("closed again"),
            |rig| {
                let packet = peer::linked(7, 4711, SLOTS, RETURNS, rig.memory.bytes());
                rig.send_with(&packet, &rig.half());
            },
        ),
        Row::new(
            Stage::Session,
            ("descriptors", "Names"),
            "one",
            Closed("with 1 descriptors"),
            |rig| {
                rig.send_with(&peer::names(false), &[null()]);
            },
        ),
        Row::new(
            Stage::Session,
            ("descriptors", "no packet"),
            "one",
            Closed("with an empty packet"),
            |rig| {
                let fd = null();
                rig.connection.send(&[], &[fd.as_fd()]);
            },
        ),
        segment("honest", Harmless("mapped"), 4096, || {
            vec![Memory::new(4096).fd()]
        }),
        segment("none", Closed("with 0 descriptors"), 4096, Vec::new),
        segment("two", Closed("with 2 descriptors"), 4096, || vec![null(), null()]),
        segment("a device", Closed("not a memfd"), 4096, || vec![null()]),
        segment("a pipe", Closed("not a memfd"), 4096, || vec![pipe()]),
        segment("unsealed", Closed("not sealed"), 4096, || vec![unsealed(4096)]),
        segment("smaller than said", Closed("size is not"), 8192, || {
            vec![Memory::new(4096).fd()]
        }),
        segment("empty", Closed("size is not"), 0, || vec![unsealed_none()]),
        segment("2^45 bytes, sparse", Closed("address space"), 1 << 45, || {
            vec![sealed_sparse(1 << 45)]
        }),
        segment("2^64 - 1 bytes", Closed("address space"), u64::MAX, || {
            vec![Memory::new(4096).fd()]
        }),
        Row::new(
            Stage::Session,
            ("descriptors", "Segment"),
            "2^37 bytes, three times",
            Closed("address space"),
            |rig| {
                for id in 0..3 {
                    rig.send_with(&peer::segment(id, 1 << 37), &[sealed_sparse(1 << 37)]);
                }
            },
        ),
        Row::new(
            Stage::Session,
            ("descriptors", "Segment"),
            "the same twice",
            Closed("segment number"),
            |rig| {
                rig.send_with(&peer::segment(0, 4096), &[rig.pool.fd()]);
                rig.send_with(&peer::segment(0, 4096), &[rig.pool.fd()]);
            },
        ),
        Row::new(
            Stage::Session,
            ("descriptors", "Segment"),
            "number 2^20",
            Closed("segment number"),
            |rig| {
                rig.send_with(&peer::segment(1 << 20, 4096), &[rig.pool.fd()]);
            },
        ),
    ]
}

/// As `peer::link_bytes` says; a constant for those that are no closures.
const fn peer_link_bytes() -> u64 {
    8448 + 8 * RETURNS as u64 + 64 * SLOTS as u64
}

fn seal(fd: OwnedFd) -> OwnedFd {
    let seals = SealFlag::F_SEAL_SHRINK
        | SealFlag::F_SEAL_GROW
        | SealFlag::F_SEAL_FUTURE_WRITE
        | SealFlag::F_SEAL_SEAL;
    fcntl(&fd, FcntlArg::F_ADD_SEALS(seals)).unwrap();
    fd
}

/// Sealed as it should be, and of no size.
fn unsealed_none() -> OwnedFd {
    seal(unsealed(0))
}

/// Sealed as it should be, and nothing in it.
fn sealed_sparse(bytes: u64) -> OwnedFd {
    seal(unsealed(bytes))
}
