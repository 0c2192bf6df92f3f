//! The QR code as a picture: drawn in a terminal, written as PNG or SVG, read from a photo or screenshot.
//!
//! Always black on white with a quiet zone of four modules, whatever the terminal's colours: that is what cameras read.

use std::io::Cursor;
use std::path::Path;

use image::{ImageFormat, Luma};
use qrcode::render::{svg, unicode::Dense1x2};
use qrcode::types::QrError;
use qrcode::{EcLevel, QrCode};

/// Pixels a module: a version 6 code becomes 392 pixels wide.
const MODULE_PIXELS: u32 = 8;

/// Longest side that is searched for a code; larger photos are scaled down.
const MAX_SEARCHED_PIXELS: u32 = 2000;

/// A picture that cannot be made or read.
#[derive(Debug, thiserror::Error)]
pub(super) enum PictureError {
    #[error("the QR code cannot be drawn")]
    Draw(#[from] QrError),
    #[error("the picture cannot be encoded")]
    Encode(#[source] image::ImageError),
    #[error("--qr-out must end in .png or .svg")]
    UnknownFormat,
    #[error("this is not a PNG or JPEG picture")]
    Decode(#[source] image::ImageError),
    #[error("no QR code can be read in the picture: take it again, straight and in focus, with the white border")]
    NoCode,
}

/// What a picture is written as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Png,
    Svg,
}

impl Format {
    /// By the file's name.
    pub(super) fn of(path: &Path) -> Result<Self, PictureError> {
        let extension = path.extension().map(std::ffi::OsStr::to_ascii_lowercase);
        match extension.as_deref().and_then(|extension| extension.to_str()) {
            Some("png") => Ok(Self::Png),
            Some("svg") => Ok(Self::Svg),
            _ => Err(PictureError::UnknownFormat),
        }
    }
}

fn code(text: &str) -> Result<QrCode, QrError> {
    QrCode::with_error_correction_level(text, EcLevel::M)
}

/// Lines for a terminal, two modules a character, black on white by escape codes.
pub(super) fn for_terminal(text: &str) -> Result<Vec<String>, PictureError> {
    let picture = code(text)?.render::<Dense1x2>().dark_color(Dense1x2::Dark).light_color(Dense1x2::Light).build();
    // The renderer draws the dark modules: black on white, whatever the terminal's own colours.
    Ok(picture.lines().map(|line| format!("\u{1b}[30;107m{line}\u{1b}[0m")).collect())
}

/// The bytes of a picture file.
pub(super) fn file(text: &str, format: Format) -> Result<Vec<u8>, PictureError> {
    let code = code(text)?;
    match format {
        Format::Svg => {
            let modules = u32::try_from(code.width()).unwrap_or(0).saturating_add(8);
            let side = modules.saturating_mul(MODULE_PIXELS);
            Ok(code.render::<svg::Color<'_>>().min_dimensions(side, side).build().into_bytes())
        }
        Format::Png => {
            let picture = code.render::<Luma<u8>>().module_dimensions(MODULE_PIXELS, MODULE_PIXELS).build();
            let mut bytes = Cursor::new(Vec::new());
            picture.write_to(&mut bytes, ImageFormat::Png).map_err(PictureError::Encode)?;
            Ok(bytes.into_inner())
        }
    }
}

/// The text of the first QR code in a picture.
pub(super) fn read(bytes: &[u8]) -> Result<String, PictureError> {
    let picture = image::load_from_memory(bytes).map_err(PictureError::Decode)?;
    let larger = picture.width().max(picture.height()) > MAX_SEARCHED_PIXELS;
    let picture = if larger { picture.thumbnail(MAX_SEARCHED_PIXELS, MAX_SEARCHED_PIXELS) } else { picture };
    let mut prepared = rqrr::PreparedImage::prepare(picture.to_luma8());
    let texts = prepared.detect_grids().into_iter().filter_map(|grid| grid.decode().ok());
    texts.map(|(_, text)| text).next().ok_or(PictureError::NoCode)
}

#[cfg(test)]
mod tests {
    use image::imageops::FilterType;

    use super::*;

    const TEXT: &str = "HO:0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ $%*+-./:0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";

    #[test]
    fn what_the_terminal_shows_is_black_on_white_with_a_quiet_zone_and_is_read_back() {
        let lines = for_terminal(TEXT).unwrap();
        let cells: Vec<Vec<char>> = lines
            .iter()
            .map(|line| {
                line.strip_prefix("\u{1b}[30;107m").unwrap().strip_suffix("\u{1b}[0m").unwrap().chars().collect()
            })
            .collect();
        assert!(cells[0].iter().chain(&cells[1]).all(|cell| *cell == ' '), "four white modules above");
        assert!(cells.iter().all(|line| line[..4].iter().all(|cell| *cell == ' ')), "and four at the side");
        let screen = image::GrayImage::from_fn(
            u32::try_from(cells[0].len() * 8).unwrap(),
            u32::try_from(cells.len() * 16).unwrap(),
            |x, y| {
                let cell = cells[usize::try_from(y / 16).unwrap()][usize::try_from(x / 8).unwrap()];
                let is_upper_half = y % 16 < 8;
                let is_black = cell == '█' || (cell == '▀' && is_upper_half) || (cell == '▄' && !is_upper_half);
                Luma([if is_black { 0 } else { 255 }])
            },
        );
        let mut png = Cursor::new(Vec::new());
        screen.write_to(&mut png, ImageFormat::Png).unwrap();
        assert_eq!(read(png.get_ref()).unwrap(), TEXT);
    }

    #[test]
    fn a_png_is_read_back() {
        assert_eq!(read(&file(TEXT, Format::Png).unwrap()).unwrap(), TEXT);
    }

    #[test]
    fn a_photo_at_an_angle_and_in_bad_light_is_read() {
        let png = image::load_from_memory(&file(TEXT, Format::Png).unwrap()).unwrap();
        let screen = png.resize(700, 700, FilterType::Triangle).to_luma8();
        // Turned by about six degrees, grey instead of white, on a dark table.
        let photo = image::GrayImage::from_fn(1200, 1000, |x, y| {
            let (dx, dy) = (f64::from(x) - 600.0, f64::from(y) - 500.0);
            let (sin, cos) = (0.1_f64).sin_cos();
            let (u, v) = (dx * cos + dy * sin + 350.0, dy * cos - dx * sin + 350.0);
            let inside =
                (0.0..f64::from(screen.width())).contains(&u) && (0.0..f64::from(screen.height())).contains(&v);
            #[expect(
                clippy::as_conversions,
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "inside"
            )]
            let pixel = if inside { screen.get_pixel(u as u32, v as u32).0[0] / 2 + 60 } else { 30 };
            Luma([pixel])
        });
        let mut jpeg = Cursor::new(Vec::new());
        photo.write_to(&mut jpeg, ImageFormat::Jpeg).unwrap();
        assert_eq!(read(jpeg.get_ref()).unwrap(), TEXT);
    }

    #[test]
    fn what_is_no_picture_or_holds_no_code_is_named() {
        assert!(matches!(read(b"not a picture"), Err(PictureError::Decode(_))));
        let mut blank = Cursor::new(Vec::new());
        image::GrayImage::new(64, 64).write_to(&mut blank, ImageFormat::Png).unwrap();
        assert!(matches!(read(blank.get_ref()), Err(PictureError::NoCode)));
        assert!(matches!(Format::of(Path::new("qr.gif")), Err(PictureError::UnknownFormat)));
        assert_eq!(Format::of(Path::new("a/qr.PNG")).unwrap(), Format::Png);
    }
}
