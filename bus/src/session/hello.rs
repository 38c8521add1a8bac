//! The packets of the handshake, which is in [`handshake`](super::handshake).
//!
//! These packets are laid out by hand, little-endian, so that builds of different versions and of
//! different rkyv settings can tell each other that they do not fit. Whatever changes in later versions,
//! the first 12 bytes of a hello and the whole of a verdict stay as they are.
//!
//! ```text
//! Hello    0  magic "SHMBUS\r\n"      8  protocol u32      12  features u64     20  abi u64
//!         28  node id u64            36  pid u32           40  role u8
//!         41  length u8, bus name; length u8, node name
//! Verdict  0  magic "SHMBUSV\n"       8  code u8            9  length u16, text
//! ```

use std::fmt;

use rkyv::{
    primitive::{ArchivedU64, ArchivedUsize},
    rend::{
        u64_be, u64_le,
        unaligned::{u64_ube, u64_ule},
    },
};

use super::names::{self, NODE_MAX};

/// The protocol's version; equal or no session.
pub(crate) const PROTOCOL: u32 = 1;

/// The features this build has. The lower half are optional: a session uses those both sides have.
/// The upper half ([`REQUIRED`]) must be known to both.
pub(crate) const FEATURES: u64 = 0;

/// The half of the feature bits without which a side that sets them cannot work.
pub(crate) const REQUIRED: u64 = 0xffff_ffff_0000_0000;

/// How this build's archives look: rkyv's format version, alignment and size of its integers,
/// and byte order. Archives can only be exchanged between equal ones.
pub(crate) const ABI: u64 = (8 << 48)
    | ((align_of::<ArchivedU64>() as u64) << 16)
    | ((size_of::<ArchivedUsize>() as u64) << 8)
    | <ArchivedU64 as ByteOrder>::BIG as u64;

/// Longest text of a refusal, in bytes.
const TEXT_MAX: usize = 512;

const HELLO_MAGIC: [u8; 8] = *b"SHMBUS\r\n";
const VERDICT_MAGIC: [u8; 8] = *b"SHMBUSV\n";

/// Which byte order rkyv was built with; its features are not visible to us, but its types are.
trait ByteOrder {
    const BIG: bool;
}
impl ByteOrder for u64_le {
    const BIG: bool = false;
}
impl ByteOrder for u64_ule {
    const BIG: bool = false;
}
impl ByteOrder for u64_be {
    const BIG: bool = true;
}
impl ByteOrder for u64_ube {
    const BIG: bool = true;
}

/// Which side of the connection speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// It connected.
    Dial,
    /// It accepted.
    Accept,
}

/// What each side says first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hello {
    pub protocol: u32,
    pub features: u64,
    pub abi: u64,
    pub id: u64,
    /// As the sender sees itself; for the log only, the kernel's word counts.
    pub pid: u32,
    pub role: Role,
    pub bus: String,
    pub node: String,
}

/// Why bytes are not a hello or a verdict.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HelloError {
    /// The first bytes are not ours: something else speaks on this socket.
    #[error("it does not begin like a shmbus packet")]
    Magic,
    /// The layout behind the version is that of another protocol.
    #[error("it speaks protocol {theirs}, this node {PROTOCOL}")]
    Version {
        /// The version it speaks.
        theirs: u32,
    },
    #[error("it ends within its {0}")]
    Short(&'static str),
    #[error("{0} bytes follow its end")]
    Long(usize),
    #[error("its role {0} is unknown")]
    Role(u8),
    #[error("its {0} name is not valid")]
    Name(&'static str),
    #[error("its text is not UTF-8 or longer than {TEXT_MAX} bytes")]
    Text,
}

impl Hello {
    /// The packet. Names must be valid, so their lengths fit.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(43 + self.bus.len() + self.node.len());
        out.extend(HELLO_MAGIC);
        out.extend(self.protocol.to_le_bytes());
        out.extend(self.features.to_le_bytes());
        out.extend(self.abi.to_le_bytes());
        out.extend(self.id.to_le_bytes());
        out.extend(self.pid.to_le_bytes());
        out.push(match self.role {
            Role::Dial => 0,
            Role::Accept => 1,
        });
        for name in [&self.bus, &self.node] {
            debug_assert!(name.len() <= NODE_MAX, "names are checked when a node is made");
            out.push(name.len() as u8);
            out.extend(name.as_bytes());
        }
        out
    }

    /// Reads a packet of anybody.
    ///
    /// # Errors
    /// What is wrong with it; of another version, only that.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, HelloError> {
        let mut rest = Parser(bytes);
        if rest.array("magic").ok() != Some(HELLO_MAGIC) {
            return Err(HelloError::Magic);
        }
        let protocol = u32::from_le_bytes(rest.array("version")?);
        if protocol != PROTOCOL {
            return Err(HelloError::Version { theirs: protocol });
        }
        let hello = Self {
            protocol,
            features: u64::from_le_bytes(rest.array("features")?),
            abi: u64::from_le_bytes(rest.array("abi")?),
            id: u64::from_le_bytes(rest.array("node id")?),
            pid: u32::from_le_bytes(rest.array("pid")?),
            role: match rest.array("role")? {
                [0] => Role::Dial,
                [1] => Role::Accept,
                [other] => return Err(HelloError::Role(other)),
            },
            bus: rest.name("bus")?,
            node: rest.name("node")?,
        };
        rest.end()?;
        Ok(hello)
    }
}

/// Why a side wants no session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Code {
    /// Another protocol version.
    Version,
    /// A required feature is missing.
    Features,
    /// Archives look different.
    Abi,
    /// Another user's process.
    ForeignUid,
    /// Another bus.
    WrongBus,
    /// A node of this name is connected already.
    NodeNameClash,
    /// There is a session with this node already, or a better one under way.
    Duplicate,
    /// No room for another peer.
    Full,
    /// The node is leaving.
    Shutdown,
    /// A reason of a later version; the text says it.
    Other(u8),
}

impl Code {
    const NAMED: [Code; 9] = [
        Code::Version,
        Code::Features,
        Code::Abi,
        Code::ForeignUid,
        Code::WrongBus,
        Code::NodeNameClash,
        Code::Duplicate,
        Code::Full,
        Code::Shutdown,
    ];

    /// 1 to 9 in the order above; 0 is a welcome.
    fn to_byte(self) -> u8 {
        match self {
            Code::Other(byte) => byte,
            named => 1 + Self::NAMED.iter().position(|code| *code == named).unwrap_or(254) as u8,
        }
    }

    fn from_byte(byte: u8) -> Self {
        Self::NAMED
            .get(usize::from(byte).wrapping_sub(1))
            .copied()
            .unwrap_or(Code::Other(byte))
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Code::Version => "protocol version",
            Code::Features => "features",
            Code::Abi => "rkyv ABI",
            Code::ForeignUid => "foreign uid",
            Code::WrongBus => "wrong bus",
            Code::NodeNameClash => "node name taken",
            Code::Duplicate => "duplicate session",
            Code::Full => "too many peers",
            Code::Shutdown => "shutting down",
            Code::Other(byte) => return write!(f, "code {byte}"),
        })
    }
}

/// What a side makes of the other's hello.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The session stands, if the other side says so too.
    Welcome,
    /// No session, and why.
    Refused(Code, String),
}

impl Verdict {
    /// A refusal; a text too long for the packet is cut.
    pub(crate) fn refuse(code: Code, text: &str) -> Self {
        Verdict::Refused(code, names::cut(text, TEXT_MAX).to_owned())
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let (code, text) = match self {
            Verdict::Welcome => (0, ""),
            Verdict::Refused(code, text) => (code.to_byte(), names::cut(text, TEXT_MAX)),
        };
        let mut out = Vec::with_capacity(11 + text.len());
        out.extend(VERDICT_MAGIC);
        out.push(code);
        out.extend((text.len() as u16).to_le_bytes());
        out.extend(text.as_bytes());
        out
    }

    /// Reads a packet of anybody.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, HelloError> {
        let mut rest = Parser(bytes);
        if rest.array("magic").ok() != Some(VERDICT_MAGIC) {
            return Err(HelloError::Magic);
        }
        let [code] = rest.array("code")?;
        let len = usize::from(u16::from_le_bytes(rest.array("text length")?));
        let text = rest.take(len, "text")?;
        rest.end()?;
        let text = std::str::from_utf8(text)
            .ok()
            .filter(|_| len <= TEXT_MAX)
            .ok_or(HelloError::Text)?;
        Ok(if code == 0 {
            Verdict::Welcome
        } else {
            Verdict::Refused(Code::from_byte(code), text.to_owned())
        })
    }
}

/// The bytes not read yet.
struct Parser<'a>(&'a [u8]);

impl<'a> Parser<'a> {
    fn take(&mut self, len: usize, what: &'static str) -> Result<&'a [u8], HelloError> {
        let (head, rest) = self.0.split_at_checked(len).ok_or(HelloError::Short(what))?;
        self.0 = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], HelloError> {
        let (head, rest) = self.0.split_first_chunk().ok_or(HelloError::Short(what))?;
        self.0 = rest;
        Ok(*head)
    }

    fn name(&mut self, what: &'static str) -> Result<String, HelloError> {
        let [len] = self.array(what)?;
        let name = std::str::from_utf8(self.take(len.into(), what)?).map_err(|_| HelloError::Name(what))?;
        names::check(what, name).map_err(|_| HelloError::Name(what))?;
        Ok(name.to_owned())
    }

    fn end(&self) -> Result<(), HelloError> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(HelloError::Long(self.0.len()))
        }
    }
}

#[cfg(test)]
mod tests;
