//! The role that computes.

use std::{
    pin::pin,
    time::{Duration, UNIX_EPOCH},
};

use shmbus::prelude::*;
use shmbus_examples::stop;
use tokio::select;

use crate::{
    Failure,
    args::Options,
    collector::COLLECTOR,
    messages::{Edges, Frame, Ready, Summary},
    pixels,
    source::FRAMES,
};

/// The group whose members share the frames.
const GROUP: &str = "workers";

type Collector = Address<(Ready, Edges, Summary)>;

/// Takes frames until told to end.
pub async fn run(options: &Options, number: u32) -> Result<(), Failure> {
    let mut stop = pin!(stop::requested(options.place.launched_by, 0)?);
    let bus = options.join(&format!("worker-{number}")).await?;
    let collector: Collector = bus.address(COLLECTOR).await?;
    let mut frames = bus
        .subscriber::<Frame>(FRAMES)
        .group(GROUP)
        .depth(options.depth)
        .when_full(WhenFull::Wait)
        .await?;
    collector.tell(&Ready { worker: number }).await?;
    loop {
        let frame = select! {
            () = &mut stop => break,
            frame = frames.recv() => frame,
        };
        let Some(frame) = frame else { break };
        // The frame is dropped, and thereby given back, when its result was told.
        work(&frame, number, &collector).await?;
    }
    let copies = bus.stats().loans_copied;
    collector.tell(&Summary { copies }).await?;
    bus.leave().await;
    Ok(())
}

/// Reads the pixels where the source wrote them, and writes the edges where the collector will read them.
async fn work(frame: &Received<Frame>, worker: u32, collector: &Collector) -> Result<(), Failure> {
    let (width, height) = (frame.width.to_native(), frame.height.to_native());
    let (pixels, channels) = (&*frame.pixels, usize::from(frame.channels));
    let area = width as usize * height as usize;
    if area == 0 || pixels.len() != area * channels {
        return Err(format!("frame {} has not the size that it says", frame.number).into());
    }
    let published = frame.origin().map_or(UNIX_EPOCH, |origin| origin.time());
    let published = published.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let mut loan = collector.loan::<Edges>(area).await?;
    let histogram = pixels::edges(pixels, width as usize, channels, &mut loan);
    let result = |edges| Edges {
        number: frame.number.to_native(),
        picture: frame.picture.to_native(),
        worker,
        width,
        height,
        bytes: pixels.len() as u64,
        published_us: published.as_micros() as u64,
        histogram,
        edges,
    };
    Ok(loan.send(result).await?)
}
