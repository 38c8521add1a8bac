//! What the processes say to each other.

use shmbus::prelude::*;

/// Source to one of the workers: a picture.
#[derive(Debug, ShmMessage)]
pub struct Frame {
    /// Counted from 0: what names the frame, however often it is delivered.
    pub number: u64,
    /// Which of the source's pictures, counted from 0.
    pub picture: u32,
    pub width: u32,
    pub height: u32,
    /// Bytes of a pixel: grey, grey and alpha, RGB, or RGB and alpha.
    pub channels: u8,
    /// Row by row from the top.
    pub pixels: Bulk,
}

/// Worker to collector: I take frames from now on.
#[derive(Debug, ShmMessage)]
pub struct Ready {
    pub worker: u32,
}

/// Worker to collector: what came of a frame.
#[derive(Debug, ShmMessage)]
pub struct Edges {
    pub number: u64,
    pub picture: u32,
    pub worker: u32,
    pub width: u32,
    pub height: u32,
    /// The frame's pixels, in bytes.
    pub bytes: u64,
    /// When the frame was published, in microseconds since 1970.
    pub published_us: u64,
    /// How many pixels have which brightness.
    pub histogram: [u32; 256],
    /// How steep the brightness is at each pixel, row by row.
    pub edges: Bulk,
}

/// Source and workers to collector, at the end.
#[derive(Debug, ShmMessage)]
pub struct Summary {
    /// How often this process, or the bus for it, copied the pixels of a frame or a result.
    pub copies: u64,
}
