//! `/tiles`: a part of a Mandelbrot picture, some rows per message.

use std::f64::consts::TAU;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use examples::query::Query;

/// The picture; `page.html` has a canvas of this size.
const WIDTH: usize = 960;
const HEIGHT: usize = 640;
const TILES_MAX: usize = 256;
const DEPTH_MAX: i32 = 6;

/// A step ends after the row that passes this: short enough for others to have their turn, and
/// for a cancelled tile to stop at once.
const STEP_TIME: Duration = Duration::from_millis(5);

/// Where the zoom leads to, and where it starts.
const TARGET: (f64, f64) = (-0.743_643_887_037_151, 0.131_825_904_205_330);
const OVERVIEW: (f64, f64) = (-0.65, 0.0);

/// Samples per pixel, along one side.
const SAMPLES: usize = 2;

#[derive(Debug)]
pub struct Tile {
    x: usize,
    y: usize,
    width: usize,
    height: usize,
    rows_done: usize,
    view: View,
}

/// Which part of the plane the picture shows.
#[derive(Debug)]
struct View {
    left: f64,
    top: f64,
    pixel: f64,
    iterations_max: i32,
}

impl Tile {
    /// `tile=0&of=8&depth=1`: the first of eight tiles, not zoomed in.
    pub fn from_query(query: &str) -> Result<Self, String> {
        let mut query = Query::new(query);
        let tiles = query.take_number("of", 8, 1..=TILES_MAX)?;
        if !tiles.is_power_of_two() {
            return Err("of must be a power of two".to_owned());
        }
        let tile = query.take_number("tile", 0, 0..=tiles - 1)?;
        let depth = query.take_number("depth", 1, 1..=DEPTH_MAX)?;
        query.finish()?;
        // 8 tiles are 4 columns and 2 rows, 16 are 4 and 4.
        let columns = 1 << tiles.ilog2().div_ceil(2);
        let (width, height) = (WIDTH / columns, HEIGHT / (tiles / columns));
        let (x, y) = (tile % columns * width, tile / columns * height);
        Ok(Self {
            x,
            y,
            width,
            height,
            rows_done: 0,
            view: View::at(depth),
        })
    }

    /// Draws the next rows. False if there are none left.
    ///
    /// A message is six little-endian u16 (x, y, width and rows of the strip that follows, rows
    /// of the tile done with it, rows of the tile) and the strip's pixels as RGBA.
    pub fn write_next(&mut self, message: &mut Vec<u8>) -> bool {
        if self.rows_done == self.height {
            return false;
        }
        let (start, first) = (Instant::now(), self.rows_done);
        message.clear();
        message.extend_from_slice(&[0; 12]);
        while self.rows_done < self.height && start.elapsed() < STEP_TIME {
            let y = self.y + self.rows_done;
            for x in self.x..self.x + self.width {
                message.extend_from_slice(&self.view.color(x, y));
            }
            self.rows_done += 1;
        }
        let rows = self.rows_done - first;
        let header = [
            self.x,
            self.y + first,
            self.width,
            rows,
            self.rows_done,
            self.height,
        ];
        for (field, value) in message.chunks_exact_mut(2).zip(header) {
            field.copy_from_slice(&(value as u16).to_le_bytes());
        }
        true
    }
}

impl View {
    fn at(depth: i32) -> Self {
        let zoom = 9_f64.powi(depth - 1);
        let (width, near) = (3.4 / zoom, 1.0 - 1.0 / (zoom * zoom));
        let center = |from: f64, to: f64| from + (to - from) * near;
        let pixel = width / WIDTH as f64;
        Self {
            left: center(OVERVIEW.0, TARGET.0) - width / 2.0,
            top: center(OVERVIEW.1, TARGET.1) - pixel * HEIGHT as f64 / 2.0,
            pixel,
            iterations_max: 250 + 450 * (depth - 1),
        }
    }

    /// The mean of some samples spread over the pixel.
    fn color(&self, x: usize, y: usize) -> [u8; 4] {
        let mut sum = [0_u32; 3];
        for sample in 0..SAMPLES * SAMPLES {
            let within = |index: usize| (index as f64 + 0.5) / SAMPLES as f64;
            let re = self.left + self.pixel * (x as f64 + within(sample % SAMPLES));
            let im = self.top + self.pixel * (y as f64 + within(sample / SAMPLES));
            let color = escape_time(re, im, self.iterations_max).map_or([10, 12, 24], shade);
            for (sum, part) in sum.iter_mut().zip(color) {
                *sum += u32::from(part);
            }
        }
        let [red, green, blue] = sum.map(|part| (part / (SAMPLES * SAMPLES) as u32) as u8);
        [red, green, blue, 255]
    }
}

/// How soon the point escapes, without steps between the counts. None if it does not.
fn escape_time(re: f64, im: f64, iterations_max: i32) -> Option<f64> {
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

/// The cardioid and the disc beside it: most of the points that never escape, told at once.
fn is_in_main_bodies(re: f64, im: f64) -> bool {
    let quarter = re - 0.25;
    let distance = quarter * quarter + im * im;
    distance * (distance + quarter) <= 0.25 * im * im || (re + 1.0).powi(2) + im * im <= 0.0625
}

/// From night blue through teal and sand to rust, and round again.
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
