use super::*;

/// The edges of a picture in grey, given as rows.
fn grey<const W: usize, const H: usize>(rows: [[u8; W]; H]) -> ([[u8; W]; H], Histogram) {
    let mut into = [[7; W]; H];
    let histogram = edges(rows.as_flattened(), W, 1, into.as_flattened_mut());
    (into, histogram)
}

#[test]
fn a_flat_picture_has_no_edges() {
    let (edges, histogram) = grey([[90; 6]; 4]);
    assert_eq!(edges, [[0; 6]; 4]);
    assert_eq!(histogram[90], 24);
    assert_eq!(histogram.iter().sum::<u32>(), 24);
}

#[test]
fn edges_are_where_brightness_changes() {
    // Upright, across a difference of 100; a full step is as steep as the difference.
    let (edges, _) = grey([[0, 0, 0, 100, 100, 100]; 4]);
    assert_eq!(
        edges,
        [[0; 6], [0, 0, 100, 100, 0, 0], [0, 0, 100, 100, 0, 0], [0; 6]]
    );
    // The same lying down.
    let (edges, _) = grey([[0; 4], [0; 4], [0; 4], [100; 4], [100; 4], [100; 4]]);
    assert_eq!(
        edges,
        [[0; 4], [0; 4], [0, 100, 100, 0], [0, 100, 100, 0], [0; 4], [0; 4]]
    );
    // A single white pixel, worked out by hand; its centre is level.
    let mut dot = [[0; 5]; 5];
    dot[2][2] = 255;
    let (edges, histogram) = grey(dot);
    assert_eq!(edges[1][1..4], [127, 127, 127]);
    assert_eq!(edges[2][1..4], [127, 0, 127]);
    assert_eq!((histogram[0], histogram[255]), (24, 1));
}

#[test]
fn every_kind_of_pixel_gives_the_same() {
    let grey = [
        [0u8, 50, 200, 200],
        [10, 60, 210, 210],
        [20, 70, 220, 220],
        [20, 70, 220, 255],
    ];
    let flat = grey.as_flattened();
    let expected = {
        let mut into = vec![0; 16];
        let histogram = edges(flat, 4, 1, &mut into);
        (into, histogram)
    };
    for channels in 2..=4 {
        let one = |&value: &u8| match channels {
            2 => vec![value, 9],
            3 => vec![value; 3],
            _ => vec![value, value, value, 9],
        };
        let pixels: Vec<u8> = flat.iter().flat_map(one).collect();
        let mut into = vec![0; 16];
        let histogram = edges(&pixels, 4, channels, &mut into);
        assert_eq!((into, histogram), expected, "{channels}");
    }
}

#[test]
fn no_picture_is_too_small() {
    for (width, height) in [(1, 1), (2, 2), (1, 9), (9, 1), (3, 3)] {
        let mut into = vec![1; width * height];
        let histogram = edges(&vec![5; width * height * 3], width, 3, &mut into);
        assert_eq!(into, vec![0; width * height]);
        assert_eq!(histogram[5] as usize, width * height);
    }
}

#[test]
fn a_strip() {
    let mut histogram = [0; 256];
    histogram[0] = 1000;
    histogram[255] = 30;
    let strip = strip(&histogram, 256);
    let lit = |x: usize| (0..STRIP).filter(|y| strip[y * 256 + x] == 224).count();
    assert_eq!((lit(0), lit(1), lit(255)), (STRIP, 0, 32));
    assert_eq!(super::strip(&[0; 256], 3), vec![32; 3 * STRIP]);
}
