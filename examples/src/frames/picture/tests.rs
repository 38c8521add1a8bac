use super::*;

fn decode(picture: &Picture) -> (Shape, Vec<u8>, u64) {
    let decoding = picture.open().unwrap();
    let shape = decoding.shape();
    let mut pixels = vec![0; shape.bytes()];
    let copies = decoding.read(&mut pixels).unwrap();
    (shape, pixels, copies)
}

#[test]
fn the_test_chart() {
    let pictures = load(None).unwrap();
    let (shape, pixels, copies) = decode(&pictures[0]);
    assert_eq!(
        shape,
        Shape {
            width: 1280,
            height: 720,
            channels: 3
        }
    );
    assert_eq!(copies, 0);
    assert_eq!(pixels[..3], [235; 3], "the first bar is white");
}

#[test]
fn a_folder_in_order_and_every_kind_of_colour() {
    let dir = tempfile::tempdir().unwrap();
    let kinds = [
        ("a", ColorType::L8, 1),
        ("b", ColorType::La8, 2),
        ("c", ColorType::Rgba8, 4),
    ];
    for (name, color, channels) in kinds {
        let pixels: Vec<u8> = (0..6 * channels as u8).collect();
        image::save_buffer(dir.path().join(name).with_extension("png"), &pixels, 3, 2, color).unwrap();
    }
    let deep = vec![0xff; 3 * 2 * 6];
    image::save_buffer(dir.path().join("d.png"), &deep, 3, 2, ColorType::Rgb16).unwrap();
    image::save_buffer(dir.path().join("e.jpg"), &[128; 18], 3, 2, ColorType::Rgb8).unwrap();
    fs::write(dir.path().join("notes.txt"), "no picture").unwrap();
    let pictures = load(Some(dir.path())).unwrap();
    let decoded: Vec<_> = pictures.iter().map(decode).collect();
    let shapes: Vec<_> = decoded
        .iter()
        .map(|(shape, _, copies)| (shape.channels, *copies))
        .collect();
    assert_eq!(shapes, [(1, 0), (2, 0), (4, 0), (3, 1), (3, 0)]);
    assert_eq!(decoded[2].1, (0..24).collect::<Vec<u8>>());
    assert_eq!(decoded[3].1, [0xff; 18]);
}

#[test]
fn what_is_no_picture_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("broken.png");
    assert!(load(Some(dir.path())).unwrap_err().contains("no PNG or JPEG"));
    assert!(load(Some(&path)).unwrap_err().contains("broken.png"));
    fs::write(&path, "no picture").unwrap();
    let problem = load(Some(&path)).unwrap()[0].open().err();
    assert!(
        problem
            .unwrap()
            .ends_with("broken.png: this is neither a PNG nor a JPEG")
    );
    fs::write(&path, &CHART[..1000]).unwrap();
    let picture = load(Some(&path)).unwrap().remove(0);
    let problem = picture.open().and_then(|decoding| {
        let mut pixels = vec![0; decoding.shape().bytes()];
        decoding.read(&mut pixels)
    });
    assert!(problem.unwrap_err().contains("broken.png"));
}

#[test]
fn what_was_saved_is_read_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("out.png");
    let mut histogram = [0; 256];
    histogram[9] = 6;
    save(&path, &[1, 2, 3, 4, 5, 6], 3, &histogram).unwrap();
    let (shape, pixels, _) = decode(&load(Some(&path)).unwrap()[0]);
    assert_eq!(
        shape,
        Shape {
            width: 3,
            height: 2 + STRIP as u32,
            channels: 1
        }
    );
    assert_eq!(pixels[..6], [1, 2, 3, 4, 5, 6]);
}
