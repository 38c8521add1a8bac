//! Pictures as files; nothing here knows of the bus.

use std::{
    borrow::Cow,
    fs,
    io::{self, Cursor},
    path::Path,
};

use image::{ColorType, DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader};

use crate::pixels::{self, Histogram, STRIP};

/// What is decoded if the user names nothing: drawn for this program.
const CHART: &[u8] = include_bytes!("../../assets/chart.png");

/// Most pictures of a folder. The collector keeps a result of each.
const MOST: usize = 64;

/// A picture as it was read, still compressed.
#[derive(Debug)]
pub struct Picture {
    name: String,
    bytes: Cow<'static, [u8]>,
}

/// Width, height, and bytes per pixel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    pub width: u32,
    pub height: u32,
    pub channels: u8,
}

impl Shape {
    /// Bytes of its pixels.
    pub fn bytes(self) -> usize {
        self.width as usize * self.height as usize * usize::from(self.channels)
    }
}

/// Reads a file, the pictures of a folder by name, or the test chart.
pub fn load(path: Option<&Path>) -> Result<Vec<Picture>, String> {
    let Some(path) = path else {
        return Ok(vec![Picture {
            name: "the test chart".into(),
            bytes: CHART.into(),
        }]);
    };
    let unread = |path: &Path, error: io::Error| format!("{}: {error}", path.display());
    let mut files = vec![path.to_owned()];
    if path.is_dir() {
        let entries: Result<Vec<_>, _> = fs::read_dir(path).map_err(|error| unread(path, error))?.collect();
        files = entries
            .map_err(|error| unread(path, error))?
            .iter()
            .map(fs::DirEntry::path)
            .collect();
        files.retain(|file| {
            matches!(
                ImageFormat::from_path(file),
                Ok(ImageFormat::Png | ImageFormat::Jpeg)
            ) && file.is_file()
        });
        files.sort();
    }
    if files.is_empty() {
        return Err(format!("{}: there is no PNG or JPEG", path.display()));
    }
    if files.len() > MOST {
        return Err(format!("{}: more than {MOST} pictures", path.display()));
    }
    let read = |file: &std::path::PathBuf| {
        let bytes = fs::read(file).map_err(|error| unread(file, error))?;
        Ok(Picture {
            name: file.display().to_string(),
            bytes: bytes.into(),
        })
    };
    files.iter().map(read).collect()
}

impl Picture {
    /// The file, for people.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Reads what the file says of the picture, and no pixel yet.
    pub fn open(&self) -> Result<Decoding<'_>, String> {
        let named = |error: ImageError| format!("{}: {error}", self.name);
        let reader = ImageReader::new(Cursor::new(&*self.bytes))
            .with_guessed_format()
            .map_err(|error| format!("{}: {error}", self.name))?;
        if !matches!(reader.format(), Some(ImageFormat::Png | ImageFormat::Jpeg)) {
            return Err(format!("{}: this is neither a PNG nor a JPEG", self.name));
        }
        let decoder = reader.into_decoder().map_err(named)?;
        let (width, height) = decoder.dimensions();
        let native = match decoder.color_type() {
            ColorType::L8 => Some(1),
            ColorType::La8 => Some(2),
            ColorType::Rgb8 => Some(3),
            ColorType::Rgba8 => Some(4),
            _ => None,
        };
        let shape = Shape {
            width,
            height,
            channels: native.unwrap_or(3),
        };
        Ok(Decoding {
            name: &self.name,
            decoder: Box::new(decoder),
            shape,
            native: native.is_some(),
        })
    }
}

/// A picture about to be decoded.
pub struct Decoding<'a> {
    name: &'a str,
    decoder: Box<dyn ImageDecoder + 'a>,
    shape: Shape,
    native: bool,
}

impl Decoding<'_> {
    /// What it will be.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// Decodes the pixels into memory of the shape's size, and tells how often they were copied: not at all, but for
    /// colours of more than 8 bits, which have to be converted.
    pub fn read(self, into: &mut [u8]) -> Result<u64, String> {
        let named = |error: ImageError| format!("{}: {error}", self.name);
        if self.native {
            self.decoder.read_image_boxed(into).map_err(named)?;
            return Ok(0);
        }
        let image = DynamicImage::from_decoder(self.decoder).map_err(named)?;
        into.copy_from_slice(&image.to_rgb8());
        Ok(1)
    }
}

/// Writes edges, and the histogram under them, as PNG.
pub fn save(path: &Path, edges: &[u8], width: u32, histogram: &Histogram) -> Result<(), String> {
    let rows = edges.len() / width as usize + STRIP;
    let picture = [edges, &pixels::strip(histogram, width as usize)].concat();
    image::save_buffer_with_format(
        path,
        &picture,
        width,
        rows as u32,
        ColorType::L8,
        ImageFormat::Png,
    )
    .map_err(|error| format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests;
