//! Typed messages: what can be sent, how it is archived in place, checked and read.
//!
//! A message type derives [`ShmMessage`](macro@crate::ShmMessage); the types of its fields and its
//! reply derive [`ShmType`](macro@crate::ShmType) or are among those of the standard library listed
//! at [`ShmType`]. The sender writes the archive straight into the memory that its receiver reads
//! ([rkyv](https://docs.rs/rkyv)'s format), the receiver reads it there through a [`Received`].
//!
//! ```
//! use shmbus::{ShmMessage, ShmType, message::Received};
//!
//! #[derive(ShmMessage)]
//! #[shm(reply = Result<Level, Shortage>)]
//! struct Reserve {
//!     sku: String,
//!     qty: u32,
//! }
//!
//! #[derive(ShmType)]
//! struct Level {
//!     left: u32,
//! }
//!
//! #[derive(ShmType)]
//! enum Shortage {
//!     Unknown,
//!     Only { left: u32 },
//! }
//!
//! let received = Received::local(&Reserve { sku: "nut".into(), qty: 3 });
//! assert_eq!(received.sku.as_str(), "nut"); // in place, nothing was decoded
//! assert_eq!(received.qty.to_native(), 3);
//! assert_eq!(received.to_owned().sku, "nut");
//! # let _ = (Level { left: 1 }, Shortage::Unknown, Shortage::Only { left: 1 });
//! ```

pub(crate) mod archive;
mod builtin;
mod bulk;
pub(crate) mod check;
mod in_place;
#[doc(hidden)]
pub mod private;
mod received;
mod reply_loan;
pub mod schema;
mod scratch;
mod source;
mod traits;
mod trust;

#[cfg(test)]
pub(crate) mod tests;

pub(crate) use archive::{ArchiveError, archive_behind, archive_into};
pub use archive::{Archiver, Sink};
pub use bulk::{ArchivedBulk, Bulk, BulkResolver};
pub(crate) use bulk::{Mark, Memory};
pub use check::CheckError;
pub(crate) use in_place::InPlace;
pub use received::Received;
pub(crate) use received::Refused;
pub use reply_loan::ReplyLoan;
pub use source::{Origin, Source};
pub use traits::{Archivable, FixedSize, ShmMessage, ShmRoot, ShmType};
pub use trust::Trust;
