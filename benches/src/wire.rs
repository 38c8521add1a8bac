//! Measuring anything that carries frames of bytes: the loops of server and client, written once for all such
//! systems.
//!
//! Frames have the payload's length; the first word of a frame, its sequence number, also says whether it is
//! one of the two marks, before the first message and after the last. Each server sends marks back.

use std::time::Instant;

use crate::{
    Result,
    case::{Case, IN_FLIGHT, PERIOD, Run, SILENCE},
    launch,
    meter::{Meter, Tally, phases},
    pace::{Pace, Waiting},
    payload,
    report::Driven,
};

/// First word of the frame before the first message.
pub const BEGIN: u64 = u64::MAX;
/// First word of the frame after the last message.
pub const END: u64 = u64::MAX - 1;

/// One end of connections: a client's to all servers, or a server's to the client.
///
/// What waits in the kernel does so in its methods, and is never pending.
#[allow(async_fn_in_trait, reason = "its futures stay on the thread that made them")]
pub trait Wire {
    /// How it waits.
    const WAITING: Waiting;

    /// Sends a frame to every other end, once it is written by `fill`, which must write all of it. Waits for room.
    async fn send(&mut self, fill: impl FnOnce(&mut [u8])) -> Result<()>;

    /// Waits for a frame, gives it to `read`, and lets it go. With several other ends, from each in turn. What
    /// was sent and not yet let go of is let go of before this waits.
    async fn receive<T>(&mut self, read: impl FnOnce(&[u8]) -> T) -> Result<T>;

    /// Lets go of what was sent.
    async fn flush(&mut self) -> Result<()> {
        Ok(())
    }

    /// Keeps [`IN_FLIGHT`] messages on their way until the time is up. As it is here, it suits a wire on which the
    /// other end has room for as many.
    async fn pipeline(&mut self, meter: &mut Meter) -> Result<()> {
        let mut begun = std::collections::VecDeque::with_capacity(IN_FLIGHT);
        let mut now = Instant::now();
        loop {
            while begun.len() < IN_FLIGHT && !meter.is_over_at(now) {
                let seq = meter.send();
                self.send(|frame| payload::write(frame, seq)).await?;
                begun.push_back(now);
            }
            let Some(begun) = begun.pop_front() else {
                return Ok(());
            };
            let sum = self.receive(payload::read).await?;
            now = meter.reply(begun, sum);
        }
    }
}

/// The first word of a frame.
#[inline]
#[must_use]
pub fn word(frame: &[u8]) -> u64 {
    frame.first_chunk().map_or(0, |word| u64::from_ne_bytes(*word))
}

/// A server's life; see [`System::serve`](crate::systems::System::serve).
///
/// # Errors
/// Those of the wire.
pub async fn serve(run: &Run, mut wire: impl Wire) -> Result<()> {
    let (mut tally, mut ended) = (Tally::default(), 0);
    while ended < phases(run).len() {
        let word = wire
            .receive(|frame| {
                let word = word(frame);
                match word {
                    BEGIN => tally.begin(),
                    END => tally.end(),
                    _ => tally.add(payload::read(frame)),
                }
                word
            })
            .await?;
        let is_mark = word >= END;
        if is_mark || run.case().is_round_trip() {
            wire.send(|frame| payload::write(frame, word)).await?;
        }
        if is_mark {
            wire.flush().await?;
        }
        ended += usize::from(word == END);
    }
    // Not every system tells this end that what it sent has arrived.
    launch::dismissed().await;
    Ok(())
}

/// A client's life; see [`System::drive`](crate::systems::System::drive).
///
/// # Errors
/// Those of the wire.
pub async fn drive<W: Wire>(run: &Run, mut wire: W) -> Result<Driven> {
    let mut driven = None;
    for lasts in phases(run) {
        mark(run, &mut wire, BEGIN).await?;
        let mut meter = Meter::start(run, lasts);
        messages(run, &mut wire, &mut meter).await?;
        if run.case().is_round_trip() {
            meter.stop();
            mark(run, &mut wire, END).await?;
        } else {
            // What was sent has arrived when the mark after it comes back.
            mark(run, &mut wire, END).await?;
            meter.stop();
        }
        driven = Some(Meter::report([meter]));
    }
    driven.ok_or_else(|| "nothing was measured".into())
}

/// Sends a mark and waits until every server has sent it back.
async fn mark(run: &Run, wire: &mut impl Wire, which: u64) -> Result<()> {
    wire.send(|frame| payload::write(frame, which)).await?;
    wire.flush().await?;
    for _ in 0..run.point.receivers {
        let echo = wire.receive(word).await?;
        if echo != which {
            return Err(format!("a mark came back as {echo}").into());
        }
    }
    Ok(())
}

async fn messages<W: Wire>(run: &Run, wire: &mut W, meter: &mut Meter) -> Result<()> {
    match run.case() {
        Case::Ask | Case::IdleWake => {
            let mut now = Instant::now();
            while !meter.is_over_at(now) {
                if run.case() == Case::IdleWake {
                    W::WAITING.pause(SILENCE).await;
                    now = Instant::now();
                }
                let seq = meter.send();
                wire.send(|frame| payload::write(frame, seq)).await?;
                now = meter.reply(now, wire.receive(payload::read).await?);
            }
        }
        Case::Ask64 => wire.pipeline(meter).await?,
        Case::Tell | Case::Fanout => {
            while !meter.is_over() {
                let seq = meter.send();
                wire.send(|frame| payload::write(frame, seq)).await?;
            }
        }
        Case::Cpu => {
            let mut pace = Pace::start(PERIOD, W::WAITING)?;
            while !meter.is_over() {
                for _ in 0..pace.next().await? {
                    let seq = meter.send();
                    wire.send(|frame| payload::write(frame, seq)).await?;
                    wire.flush().await?;
                }
            }
        }
    }
    Ok(())
}

/// Runs what a task or a blocking thread does, on this thread.
///
/// # Errors
/// Its own, and those of making a runtime.
pub fn block_on<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(work)
}
