//! `/tiles`: tiles of a Mandelbrot picture, some pixels per message.

use std::f64::consts::TAU;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use examples::query::Query;

/// The size of the picture; the canvas in `page.html` has the same.
const WIDTH: usize = 960;
const HEIGHT: usize = 640;
/// Tiles of one picture.
const TILES_MAX: usize = 512;
/// Below this width an `f64` cannot tell the samples of a pixel apart.
const VIEW_WIDTH_MIN: f64 = 1e-12;
const VIEW_WIDTH_MAX: f64 = 8.0;
/// Points farther away than this are outside the set.
const CENTER_MAX: f64 = 4.0;
const ITERATIONS_MAX: u32 = 20_000;
const SAMPLES_MAX: u32 = 4_096;
/// Iterations of all samples of a pixel: bounds the time of a step, which ends between two pixels.
const PIXEL_COST_MAX: u64 = 4_000_000;
const PADDING_MAX: usize = 1 << 20;
/// Padding of all tiles of a WebSocket: each of them may hold a message until the client reads.
const ALL_PADDING_MAX: usize = 4 << 20;

/// A step ends after the pixel that passes this: short enough for others to have their turn, and
/// for a cancelled tile to stop at once.
const STEP_TIME: Duration = Duration::from_millis(5);

/// Numbers in front of the pixels of a message.
const HEADER_FIELDS: usize = 7;

#[derive(Debug)]
pub struct Tile {
    index: usize,
    of: usize,
    x: usize,
    y: usize,
    width: usize,
    height: usize,
    pixels_done: usize,
    /// Zero bytes after the pixels of each message.
    padding: usize,
    view: View,
}

/// Which part of the plane the picture shows, and how exactly.
#[derive(Debug, Clone)]
struct View {
    left: f64,
    top: f64,
    pixel: f64,
    iterations_max: u32,
    samples: u32,
}

impl Tile {
    /// The tiles that a client asks for on one WebSocket. `tile=0&of=8&x=-0.7&y=0&width=3`: the
    /// first of eight tiles of the picture with this center and width; `count=2` adds the second.
    ///
    /// `iterations` and `samples` (per pixel) say how exact the picture is. `padding` makes each
    /// message longer by as many bytes, so that a client that reads slowly fills the buffers of
    /// its TCP connection.
    pub fn from_query(query: &str) -> Result<Vec<Self>, String> {
        let mut query = Query::new(query);
        let of = query.take_number("of", 8, 1..=TILES_MAX)?;
        if !of.is_power_of_two() {
            return Err("of must be a power of two".to_owned());
        }
        let first = query.take_number("tile", 0, 0..=of - 1)?;
        let count = query.take_number("count", 1, 1..=of - first)?;
        let padding = query.take_number("padding", 0, 0..=PADDING_MAX)?;
        if count * padding > ALL_PADDING_MAX {
            return Err(format!("count times padding must be at most {ALL_PADDING_MAX}"));
        }
        let view = View::from_query(&mut query)?;
        query.finish()?;
        // 8 tiles are 4 columns and 2 rows, 16 are 4 and 4.
        let columns = 1 << of.ilog2().div_ceil(2);
        let (width, height) = (WIDTH / columns, HEIGHT / (of / columns));
        let tile = |index| Self {
            index,
            of,
            x: index % columns * width,
            y: index / columns * height,
            width,
            height,
            pixels_done: 0,
            padding,
            view: view.clone(),
        };
        Ok((first..first + count).map(tile).collect())
    }

    pub fn index(&self) -> usize {
        self.index
    }

    /// The number of tiles of its picture.
    pub fn of(&self) -> usize {
        self.of
    }

    /// Computes the next pixels. False if there are none left.
    ///
    /// A message is seven little-endian u32 (the number of the tile; its left, top, width and
    /// height in the picture; the number of its first pixel in this message; how many follow), the
    /// pixels as RGBA, row by row, and the padding.
    pub fn write_next(&mut self, message: &mut Vec<u8>) -> bool {
        let pixels = self.width * self.height;
        if self.pixels_done == pixels {
            return false;
        }
        let (start, first) = (Instant::now(), self.pixels_done);
        message.clear();
        message.resize(4 * HEADER_FIELDS, 0);
        while self.pixels_done < pixels && start.elapsed() < STEP_TIME {
            let (column, row) = (self.pixels_done % self.width, self.pixels_done / self.width);
            message.extend_from_slice(&self.view.color(self.x + column, self.y + row));
            self.pixels_done += 1;
        }
        let header: [usize; HEADER_FIELDS] = [
            self.index,
            self.x,
            self.y,
            self.width,
            self.height,
            first,
            self.pixels_done - first,
        ];
        for (field, value) in message.chunks_exact_mut(4).zip(header) {
            field.copy_from_slice(&(value as u32).to_le_bytes());
        }
        message.resize(message.len() + self.padding, 0);
        true
    }
}

impl View {
    fn from_query(query: &mut Query<'_>) -> Result<Self, String> {
        let x = query.take_decimal("x", -0.65, -CENTER_MAX..=CENTER_MAX)?;
        let y = query.take_decimal("y", 0.0, -CENTER_MAX..=CENTER_MAX)?;
        let width = query.take_decimal("width", 3.4, VIEW_WIDTH_MIN..=VIEW_WIDTH_MAX)?;
        let iterations_max = query.take_number("iterations", 1000, 1..=ITERATIONS_MAX)?;
        let samples = query.take_number("samples", 4, 1..=SAMPLES_MAX)?;
        if u64::from(samples) * u64::from(iterations_max) > PIXEL_COST_MAX {
            return Err(format!(
                "samples times iterations must be at most {PIXEL_COST_MAX}"
            ));
        }
        let pixel = width / WIDTH as f64;
        Ok(Self {
            left: x - width / 2.0,
            top: y - pixel * HEIGHT as f64 / 2.0,
            pixel,
            iterations_max,
            samples,
        })
    }

    /// The mean of some samples spread over the pixel.
    fn color(&self, x: usize, y: usize) -> [u8; 4] {
        let mut sum = [0_u32; 3];
        for sample in 0..self.samples {
            // The R2 sequence: any number of its points is spread evenly.
            let within = |step: f64| (0.5 + f64::from(sample) * step).fract();
            let re = self.left + self.pixel * (x as f64 + within(0.754_877_666_246_692_8));
            let im = self.top + self.pixel * (y as f64 + within(0.569_840_290_998_053_2));
            let color = escape_time(re, im, self.iterations_max).map_or([10, 12, 24], shade);
            for (sum, part) in sum.iter_mut().zip(color) {
                *sum += u32::from(part);
            }
        }
        let [red, green, blue] = sum.map(|part| (part / self.samples) as u8);
        [red, green, blue, 255]
    }
}

/// How soon the point escapes, without steps between the counts. None if it does not.
fn escape_time(re: f64, im: f64, iterations_max: u32) -> Option<f64> {
    if is_in_main_bodies(re, im) {
        return None;
    }
    let (mut x, mut y, mut x2, mut y2) = (0.0, 0.0, 0.0, 0.0);
    for iteration in 0..iterations_max {
        if x2 + y2 > 256.0 {
            let beyond = (f64::ln(x2 + y2) / 2.0).log2();
            return Some(f64::from(iteration) + 4.0 - beyond);
        }
        y = (x + x) * y + im;
        x = x2 - y2 + re;
        (x2, y2) = (x * x, y * y);
    }
    None
}

/// The cardioid and the disc beside it: most of the points that never escape, found at once.
fn is_in_main_bodies(re: f64, im: f64) -> bool {
    let quarter = re - 0.25;
    let distance = quarter * quarter + im * im;
    distance * (distance + quarter) <= 0.25 * im * im || (re + 1.0).powi(2) + im * im <= 0.0625
}

/// The colour palette: blue, teal, sand, rust; it repeats.
#[allow(
    clippy::cast_sign_loss,
    reason = "neither a part of a colour nor a turn is negative"
)]
fn shade(escape_time: f64) -> [u8; 3] {
    static PALETTE: LazyLock<[[u8; 3]; 1024]> = LazyLock::new(|| {
        std::array::from_fn(|index| {
            let turn = index as f64 / 1024.0;
            let wave = |phase: f64| 0.5 - 0.5 * (TAU * (turn + phase)).cos();
            [(0.06, 0.0), (0.09, 0.09), (0.18, 0.2)]
                .map(|(least, phase)| (255.0 * (least + (0.97 - least) * wave(phase))) as u8)
        })
    });
    // Far from the set the counts are few, near it they are many: the root evens that out.
    let turn = (escape_time.max(0.0).sqrt() * 0.11).fract();
    PALETTE[(turn * 1024.0) as usize % 1024]
}
