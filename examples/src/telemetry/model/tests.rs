use super::*;

#[test]
fn the_status_says_who_is_missing() {
    let mut model = Model::new("b");
    assert_eq!(model.status(), ("waiting for the analyst".into(), false));
    model.answered(Duration::from_micros(40));
    assert_eq!(model.status(), ("waiting for the sampler".into(), false));
    model.view.silent_ms = Some(10);
    assert_eq!(model.status(), ("live".into(), true));
    model.view.silent_ms = Some(5_400);
    assert_eq!(model.status(), ("nothing from the sampler for 5 s".into(), false));
    model.view.totals.finished = true;
    assert_eq!(model.status(), ("the sampler has ended".into(), true));
    model.link = Link::Lost("gone".into());
    assert_eq!(
        model.status(),
        ("gone; looking for the analyst again".into(), false)
    );
}

#[test]
fn round_trips_beyond_the_scale_are_still_counted() {
    let mut model = Model::new("b");
    model.answered(Duration::ZERO);
    model.answered(Duration::from_secs(1000));
    assert_eq!(model.answered, 2);
    assert_eq!(model.round_trips.len(), 2);
}
