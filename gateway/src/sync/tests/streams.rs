//! The stream: how it opens, goes on, breaks, and is opened again.

use tidegate_control_wire::frame::MAX_LINE;
use tokio::time::{Instant, sleep};

use super::*;

#[tokio::test(start_paused = true)]
async fn it_says_who_it_is_and_hands_batches_on() {
    let (line, answer) = line();
    let mut scene = Scene::new(vec![answer]);
    let asked = scene.asked().await;
    assert_eq!(asked.authorization.as_deref(), Some("Bearer tgg_secret"));
    assert_eq!(serde_json::from_value::<Hello>(asked.body).unwrap(), hello());
    line.begin("one", true).await;
    scene.connected().await;
    line.say(&change("a")).await;
    line.say(&change("b")).await;
    line.commit(7).await;
    line.say(&change("c")).await;
    line.commit(8).await;
    let first = scene.batch().await;
    assert!(first.reset && first.epoch == "one");
    assert_eq!((first.changes.len(), first.generation), (2, Generation(7)));
    let second = scene.batch().await;
    assert!(!second.reset);
    assert_eq!((second.changes.len(), second.generation), (1, Generation(8)));
    assert_eq!(
        *scene.control.addresses(),
        ["192.0.2.7".parse::<IpAddr>().unwrap()]
    );
}

#[tokio::test(start_paused = true)]
async fn it_goes_on_from_what_is_in_force() {
    let (first, one) = line();
    let (second, two) = line();
    let mut scene = Scene::new(vec![one, two]);
    assert_eq!(scene.hello().await.resume, None);
    first.begin("one", true).await;
    first.commit(7).await;
    scene.batch().await;
    scene.in_force("one", 7);
    drop(first);
    let resume = scene.hello().await.resume.unwrap();
    assert_eq!((resume.epoch.as_str(), resume.generation), ("one", Generation(7)));
    second.begin("one", false).await;
    second.say(&change("a")).await;
    second.commit(9).await;
    let batch = scene.batch().await;
    assert!(!batch.reset && batch.generation == Generation(9));
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_another_one_begins_anew() {
    let (first, one) = line();
    let mut scene = Scene::new(vec![one]);
    scene.in_force("one", 7);
    scene.hello().await;
    first.begin("two", true).await;
    first.commit(2).await;
    let batch = scene.batch().await;
    assert!(batch.reset && batch.epoch == "two" && batch.generation == Generation(2));
}

#[tokio::test(start_paused = true)]
async fn changes_that_go_on_from_something_else_are_not_taken() {
    for (held, said) in [(None, "one"), (Some("one"), "two")] {
        let (line, answer) = line();
        let mut scene = Scene::new(vec![answer]);
        if let Some(held) = held {
            scene.in_force(held, 7);
        }
        line.begin(said, false).await;
        line.say(&change("a")).await;
        line.commit(8).await;
        assert!(
            scene.away().await.contains("another store's history"),
            "{held:?} {said}"
        );
        assert!(scene.batches.try_recv().is_err());
    }
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_breaks_off_is_not_handed_on() {
    let (first, one) = line();
    let (second, two) = line();
    let mut scene = Scene::new(vec![one, two]);
    first.begin("one", true).await;
    first.say(&change("a")).await;
    first.bytes(write_line(&commit(7))[..10].to_vec()).await;
    scene.connected().await;
    drop(first);
    assert!(scene.away().await.contains("ended the stream"));
    second.begin("one", true).await;
    second.commit(9).await;
    let batch = scene.batch().await;
    assert_eq!((batch.changes.len(), batch.generation), (0, Generation(9)));
}

#[tokio::test(start_paused = true)]
async fn frames_may_come_in_any_pieces() {
    let (line, answer) = line();
    let mut scene = Scene::new(vec![answer]);
    let text = [
        begin("one", true),
        change("a"),
        commit(1),
        ping(1),
        change("b"),
        commit(2),
    ]
    .iter()
    .flat_map(write_line)
    .collect::<Vec<u8>>();
    let speak = async {
        for piece in text.chunks(7) {
            line.bytes(piece.to_vec()).await;
        }
    };
    let ((), (first, second)) = tokio::join!(speak, async { (scene.batch().await, scene.batch().await) });
    assert_eq!((first.changes.len(), second.changes.len()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn silence_means_dead_and_pings_mean_alive() {
    let (line, answer) = line();
    let scene = Scene::new(vec![answer]);
    line.begin("one", true).await;
    scene.connected().await;
    for _ in 0..20 {
        sleep(Duration::from_secs(5)).await;
        line.say(&ping(1)).await;
    }
    assert_eq!(scene.link(), LinkState::Connected, "100 s with a ping every 5");
    let begun = Instant::now();
    assert!(scene.away().await.contains("nothing was heard for 15 s"));
    let waited = begun.elapsed();
    assert!((14..=16).contains(&waited.as_secs()), "{waited:?}");
    drop(line);
}

#[tokio::test(start_paused = true)]
async fn a_control_plane_that_does_not_answer_is_given_up() {
    let mut scene = Scene::new(vec![Answer::Never]);
    scene.hello().await;
    assert!(scene.away().await.contains("did not answer in time"));
    scene.hello().await;
}

#[tokio::test(start_paused = true)]
async fn refusals_are_told_from_outages() {
    let problem = r#"{"title":"Unauthorized","detail":"the token was revoked","status":401}"#;
    for (status, refuses) in [
        (401, true),
        (403, true),
        (404, true),
        (409, true),
        (426, true),
        (408, false),
        (429, false),
        (500, false),
        (503, false),
    ] {
        let status = StatusCode::from_u16(status).unwrap();
        let (line, answer) = line();
        let mut scene = Scene::new(vec![Answer::Whole(status, problem.into()), answer]);
        let error = if refuses {
            scene.refused().await
        } else {
            scene.away().await
        };
        assert!(
            error.contains(status.as_str()) && error.contains("the token was revoked"),
            "{error}"
        );
        scene.hello().await;
        scene.hello().await;
        line.begin("one", true).await;
        scene.connected().await;
    }
}

#[tokio::test(start_paused = true)]
async fn another_protocol_is_said_and_nothing_of_it_is_taken() {
    let (line, answer) = line();
    let mut scene = Scene::new(vec![answer]);
    line.say(&Frame::Begin {
        protocol: PROTOCOL + 1,
        epoch: "one".into(),
        reset: true,
    })
    .await;
    line.commit(1).await;
    let error = scene.refused().await;
    assert!(
        error.contains("protocol") && error.contains("update the older one"),
        "{error}"
    );
    assert!(scene.batches.try_recv().is_err());
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_breaks_the_rules_is_closed() {
    let cases: [(&str, Vec<u8>); 4] = [
        ("not understood", b"no json\n".to_vec()),
        ("not understood", b"{\"frame\":\"begin\"}\n".to_vec()),
        ("open with one `begin`", write_line(&change("a"))),
        (
            "open with one `begin`",
            [write_line(&begin("one", true)), write_line(&begin("one", true))].concat(),
        ),
    ];
    for (want, bytes) in cases {
        let (line, answer) = line();
        let scene = Scene::new(vec![answer]);
        line.bytes(bytes).await;
        let error = scene.away().await;
        assert!(error.contains(want), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_line_without_end_is_not_kept_in_memory() {
    let (line, answer) = line();
    let scene = Scene::new(vec![answer]);
    line.begin("one", true).await;
    let chunk = Bytes::from(vec![b'x'; 1 << 20]);
    for _ in 0..=MAX_LINE / chunk.len() {
        line.bytes(chunk.clone()).await;
    }
    assert!(scene.away().await.contains("a line is longer than"));
}

#[tokio::test(start_paused = true)]
async fn tries_grow_rarer_and_begin_anew_after_a_success() {
    let (line, answer) = line();
    let begun = Instant::now();
    let mut scene = Scene::failing(8, vec![answer]);
    scene.hello().await;
    // 100 ms, 200 ms … 5 s, 5 s, each between a half and the whole.
    let whole = Duration::from_millis(100 + 200 + 400 + 800 + 1_600 + 3_200 + 5_000 + 5_000);
    let waited = begun.elapsed();
    assert!(waited >= whole / 2 && waited <= whole, "{waited:?}");
    line.begin("one", true).await;
    line.commit(1).await;
    scene.batch().await;
    drop(line);
    let lost = Instant::now();
    scene.hello().await;
    assert!(
        lost.elapsed() <= Duration::from_millis(100),
        "{:?}",
        lost.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn a_control_plane_that_only_begins_does_not_reset_the_pauses() {
    let (mut lines, mut answers) = (Vec::new(), Vec::new());
    for _ in 0..6 {
        let (line, answer) = line();
        line.begin("one", true).await;
        lines.push(line);
        answers.push(answer);
    }
    let begun = Instant::now();
    let mut scene = Scene::new(answers);
    for line in lines {
        scene.hello().await;
        drop(line);
    }
    assert!(begun.elapsed() >= Duration::from_millis((100 + 200 + 400 + 800 + 1_600) / 2));
}

#[tokio::test(start_paused = true)]
async fn a_gateway_that_is_slow_to_compile_holds_control_back() {
    let (line, answer) = line();
    let mut scene = Scene::new(vec![answer]);
    line.begin("one", true).await;
    let many = QUEUE as u64 * 4;
    for generation in 1..=many {
        line.commit(generation).await;
    }
    scene.connected().await;
    // Everything that can happen has happened when nothing but the clock can move.
    sleep(Duration::from_millis(1)).await;
    assert_eq!(
        scene.batches.len(),
        QUEUE,
        "no more than the queue holds was read"
    );
    for generation in 1..=many {
        assert_eq!(
            scene.batch().await.generation,
            Generation(generation),
            "none is lost"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn everything_is_asked_for_anew_when_what_is_held_is_not_trusted() {
    let (first, one) = line();
    let mut scene = Scene::new(vec![one]);
    scene.in_force("one", 7);
    assert!(scene.hello().await.resume.is_some());
    first.begin("one", false).await;
    scene.connected().await;
    scene.control.forget();
    assert_eq!(scene.hello().await.resume, None);
}

#[tokio::test(start_paused = true)]
async fn status_tells_how_it_is() {
    let (line, answer) = line();
    let mut scene = Scene::failing(1, vec![answer]);
    let report = |scene: &Scene| scene.control.report().unwrap();
    assert_eq!(report(&scene)["state"], "away");
    assert_eq!(report(&scene)["age_seconds"], Value::Null, "never synced");
    scene.away().await;
    assert!(
        report(&scene)["error"]
            .as_str()
            .unwrap()
            .contains("takes no connection")
    );
    assert!(scene.control.degraded().is_empty(), "away for less than a minute");
    line.begin("one", true).await;
    line.commit(7).await;
    scene.batch().await;
    scene.in_force("one", 7);
    let connected = report(&scene);
    assert_eq!(connected["state"], "connected");
    assert_eq!(
        (&connected["generation"], &connected["epoch"]),
        (&7.into(), &"one".into())
    );
    assert!(connected["age_seconds"].is_i64() && connected["error"].is_null());
    scene.control.set_disk(Some("the disk is full".into()));
    assert_eq!(scene.control.degraded(), ["the disk is full"]);
    assert!(
        Control::new(false).report().is_none(),
        "without a control plane there is nothing to tell"
    );
}

#[tokio::test(start_paused = true)]
async fn a_default_policy_that_became_another_is_told_with_the_next_ping() {
    let (first, one) = line();
    let (_second, two) = line();
    let mut scene = Scene::new(vec![one, two]);
    assert_eq!(scene.hello().await.networks, []);
    first.begin("one", true).await;
    first.commit(7).await;
    scene.batch().await;
    first.say(&ping(7)).await;
    let network = ServedNetwork {
        name: "runners".into(),
        default_yaml: Some("egress-policy: audit\n".into()),
        ..ServedNetwork::default()
    };
    *scene.networks.lock() = vec![network.clone()];
    first.say(&ping(7)).await;
    assert_eq!(scene.hello().await.networks, [network]);
}
