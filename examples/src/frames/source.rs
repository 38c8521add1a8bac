//! The role that decodes.

use std::{future, pin::pin};

use shmbus::prelude::*;
use shmbus_examples::stop;
use tokio::select;

use crate::{
    Failure,
    args::{Decode, Options},
    collector::COLLECTOR,
    messages::{Frame, Summary},
    picture::{self, Picture, Shape},
};

/// The topic of the frames.
pub const FRAMES: &str = "frames";

/// Publishes all frames, then stays until told to end.
pub async fn run(options: &Options) -> Result<(), Failure> {
    let stop = pin!(stop::requested(options.place.launched_by, 0)?);
    let pictures = picture::load(options.picture.as_deref())?;
    let bus = options.join("source").await?;
    let collector = bus.address::<Summary>(COLLECTOR).await?;
    let mut source = Source {
        frames: bus.publisher(FRAMES).await?,
        copies: 0,
    };
    let publish = async {
        match options.decode {
            Decode::Every => source.decode_each(&pictures, options.frames).await?,
            Decode::Once => source.decode_once(&pictures, options.frames).await?,
        }
        // What a worker that dies has not handled is sent again from here.
        future::pending().await
    };
    let done: Result<(), Failure> = select! {
        () = stop => Ok(()),
        done = publish => done,
    };
    // Should a message have grown out of its loan, the bus has copied it.
    let copies = source.copies + bus.stats().loans_copied;
    collector.tell(&Summary { copies }).await?;
    bus.leave().await;
    done
}

struct Source {
    frames: Publisher<Frame>,
    copies: u64,
}

impl Source {
    /// The decoder writes into the very memory that a worker reads.
    async fn decode_each(&mut self, pictures: &[Picture], frames: u64) -> Result<(), Failure> {
        for number in 0..frames {
            let picture = number as usize % pictures.len();
            let decoding = pictures[picture].open()?;
            let shape = decoding.shape();
            let mut loan = self.frames.loan(shape.bytes()).await?;
            self.copies += decoding.read(&mut loan)?;
            loan.send(|pixels| frame(number, picture, shape, pixels)).await?;
        }
        Ok(())
    }

    /// Without the decoder's share of the time, to see how fast the rest is.
    async fn decode_once(&mut self, pictures: &[Picture], frames: u64) -> Result<(), Failure> {
        let mut decoded = Vec::new();
        for picture in pictures {
            let decoding = picture.open()?;
            let shape = decoding.shape();
            let mut pixels = vec![0; shape.bytes()];
            decoding.read(&mut pixels)?;
            decoded.push((shape, pixels));
        }
        for number in 0..frames {
            let picture = number as usize % decoded.len();
            let (shape, pixels) = &decoded[picture];
            let mut loan = self.frames.loan(pixels.len()).await?;
            loan.copy_from_slice(pixels);
            self.copies += 1;
            loan.send(|pixels| frame(number, picture, *shape, pixels)).await?;
        }
        Ok(())
    }
}

fn frame(number: u64, picture: usize, shape: Shape, pixels: Bulk) -> Frame {
    let Shape {
        width,
        height,
        channels,
    } = shape;
    Frame {
        number,
        picture: picture as u32,
        width,
        height,
        channels,
        pixels,
    }
}
