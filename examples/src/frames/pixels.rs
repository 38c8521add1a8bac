//! What is computed; nothing here knows of the bus.

/// How many pixels have which brightness.
pub type Histogram = [u32; 256];

/// Computes how steep the brightness of a picture is at each pixel, by Sobel's operator, and its histogram. The border
/// counts as flat. `into` has a byte per pixel.
pub fn edges(pixels: &[u8], width: usize, channels: usize, into: &mut [u8]) -> Histogram {
    let mut histogram = [0; 256];
    into.fill(0);
    // The brightness of three rows at a time: it is computed once per pixel, and stays in the cache.
    let mut window = [(); 3].map(|()| vec![0; width]);
    for (y, row) in pixels.chunks_exact(width * channels).enumerate() {
        window.rotate_left(1);
        brightness(row, channels, &mut window[2]);
        for &value in &window[2] {
            histogram[value as usize] += 1;
        }
        if y >= 2 {
            let start = (y - 1) * width;
            steepness(
                [&window[0], &window[1], &window[2]],
                &mut into[start..start + width],
            );
        }
    }
    histogram
}

/// Brightness of the pixels of a row, 0 to 255.
fn brightness(row: &[u8], channels: usize, into: &mut [i32]) {
    for (pixel, into) in row.chunks_exact(channels).zip(into) {
        *into = match *pixel {
            [red, green, blue, ..] => {
                // How bright the three look to people (ITU-R BT.601), in parts of 256.
                (77 * i32::from(red) + 150 * i32::from(green) + 29 * i32::from(blue)) >> 8
            }
            [grey, ..] => grey.into(),
            [] => 0,
        };
    }
}

/// Steepness along the middle one of three rows; its ends stay as they are.
fn steepness([above, here, below]: [&[i32]; 3], into: &mut [u8]) {
    let rows = above.windows(3).zip(here.windows(3)).zip(below.windows(3));
    for (((above, here), below), into) in rows.zip(into.iter_mut().skip(1)) {
        let across = above[2] - above[0] + 2 * (here[2] - here[0]) + below[2] - below[0];
        let down = below[0] - above[0] + 2 * (below[1] - above[1]) + below[2] - above[2];
        // Both are at most 4 times the greatest difference of brightness.
        *into = ((across.abs() + down.abs()) / 4).min(255) as u8;
    }
}

/// Rows of the histogram under a result.
pub const STRIP: usize = 64;

/// A histogram as a picture in grey: `STRIP` rows. Logarithmic, because one colour often covers most of a picture.
pub fn strip(histogram: &Histogram, width: usize) -> Vec<u8> {
    let log = |count: u32| f64::from(count).ln_1p();
    let most = log(histogram.iter().copied().max().unwrap_or(0)).max(f64::MIN_POSITIVE);
    let height = |x: usize| (log(histogram[x * 256 / width]) / most * STRIP as f64).round() as usize;
    let heights: Vec<usize> = (0..width).map(height).collect();
    let row = |y: usize| {
        heights
            .iter()
            .map(move |height| if STRIP - y <= *height { 224 } else { 32 })
    };
    (0..STRIP).flat_map(row).collect()
}

#[cfg(test)]
mod tests;
