//! A Unix socket under tokio, on a runtime of one thread; one call per message.

use std::{cell::RefCell, collections::VecDeque, time::Instant};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    sync::Semaphore,
};

use super::unix::{self, BEGIN, END};
use crate::{
    Result,
    case::{Case, IN_FLIGHT, Run},
    meter::{Meter, Tally, phases},
    payload,
    report::Driven,
};

fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()?)
}

fn under_tokio(socket: std::os::unix::net::UnixStream) -> Result<UnixStream> {
    socket.set_nonblocking(true)?;
    Ok(UnixStream::from_std(socket)?)
}

/// See [`super::System::serve`].
pub(super) fn serve(run: &Run, ready: fn()) -> Result<()> {
    let socket = unix::accept(run, ready)?;
    runtime()?.block_on(async {
        let mut socket = under_tokio(socket)?;
        let (mut frame, mut tally) = (vec![0; run.payload], Tally::default());
        loop {
            match socket.read_exact(&mut frame).await {
                Err(error) if unix::is_end(&error) => return Ok(()),
                done => done?,
            };
            if unix::take(&frame, &mut tally, run.case) {
                socket.write_all(&frame).await?;
            }
        }
    })
}

async fn mark(socket: &mut UnixStream, frame: &mut [u8], which: u64) -> Result<()> {
    frame[..8].copy_from_slice(&which.to_ne_bytes());
    socket.write_all(frame).await?;
    socket.read_exact(frame).await?;
    Ok(())
}

/// See [`super::System::drive`].
pub(super) fn drive(run: &Run) -> Result<Driven> {
    let socket = unix::connect(run)?;
    runtime()?.block_on(async {
        let mut socket = under_tokio(socket)?;
        let mut frame = vec![0; run.payload];
        let mut driven = Driven::default();
        for (_, lasts) in phases(run) {
            mark(&mut socket, &mut frame, BEGIN).await?;
            let mut meter = Meter::start(run, lasts);
            match run.case {
                Case::Ask => {
                    let mut now = Instant::now();
                    while !meter.is_over_at(now) {
                        payload::write(&mut frame, meter.send());
                        socket.write_all(&frame).await?;
                        socket.read_exact(&mut frame).await?;
                        now = meter.reply(now, payload::read(&frame));
                    }
                }
                Case::Ask64 => meter = pipeline(&mut socket, run.payload, meter).await?,
                Case::Tell => {
                    while !meter.is_over() {
                        payload::write(&mut frame, meter.send());
                        socket.write_all(&frame).await?;
                    }
                }
            }
            if run.case == Case::Tell {
                mark(&mut socket, &mut frame, END).await?;
                driven = meter.stop();
            } else {
                driven = meter.stop();
                mark(&mut socket, &mut frame, END).await?;
            }
        }
        Ok(driven)
    })
}

/// A writing and a reading future, with [`IN_FLIGHT`] permits between them.
async fn pipeline(socket: &mut UnixStream, payload: usize, meter: Meter) -> Result<Meter> {
    let (mut input, mut output) = socket.split();
    let permits = Semaphore::new(IN_FLIGHT);
    let shared = RefCell::new((meter, VecDeque::with_capacity(IN_FLIGHT)));
    let write = async {
        let mut frame = vec![0; payload];
        loop {
            permits.acquire().await?.forget();
            let now = Instant::now();
            let seq = {
                let (meter, begun) = &mut *shared.borrow_mut();
                if meter.is_over_at(now) {
                    return Ok::<_, Box<dyn std::error::Error>>(());
                }
                begun.push_back(now);
                meter.send()
            };
            self::payload::write(&mut frame, seq);
            output.write_all(&frame).await?;
        }
    };
    let read = async {
        let mut frame = vec![0; payload];
        loop {
            input.read_exact(&mut frame).await?;
            let sum = self::payload::read(&frame);
            let (meter, begun) = &mut *shared.borrow_mut();
            let begun = begun.pop_front().ok_or("a reply too many")?;
            let now = meter.reply(begun, sum);
            permits.add_permits(1);
            if meter.is_over_at(now) && meter.in_flight() == 0 {
                return Ok(());
            }
        }
    };
    tokio::try_join!(write, read)?;
    Ok(shared.into_inner().0)
}
