//! What was acknowledged is there: over a control plane that is killed in the middle of its work, again and again, and
//! over a PostgreSQL that comes and goes below it. Needs no lab: the program stands on loopback.

mod auditor;
mod follower;
mod hands;
mod plane;

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;
use tidegate_e2e::PATIENCE;
use tidegate_lab::PostgresServer;
use tokio::sync::watch;
use tokio::task::JoinSet;

use self::auditor::Auditor;
use self::follower::{Follower, GATEWAY};
use self::hands::{Doors, Fate, Hand};
use self::plane::Plane;
use super::plain::{Client, Unanswered};

/// How often control is killed.
const KILLS: u64 = 100;
/// Changes that are waited for while PostgreSQL is well.
const SOME: u64 = 60;
/// PostgreSQL starts in seconds, and connections to it are tried for five.
const RECOVERY: Duration = Duration::from_mins(1);

/// What the changes came to.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    acknowledged: u64,
    /// The connection broke before the answer.
    cut: u64,
    /// Refused with 503.
    away: u64,
    /// Of those without an answer: carried out, and not.
    stored: u64,
    lost: u64,
}

impl Tally {
    fn unanswered(&mut self, how: &Unanswered) {
        match how {
            Unanswered::Unsent => {}
            Unanswered::Cut => self.cut += 1,
            Unanswered::Away => self.away += 1,
        }
    }

    fn settled(&mut self, fate: Fate) {
        match fate {
            Fate::None => {}
            Fate::Stored => self.stored += 1,
            Fate::Lost => self.lost += 1,
        }
    }
}

/// Everybody who writes, reads along and checks.
struct Crew {
    hands: Vec<(Hand, Doors)>,
    follower: Follower,
    auditor: Auditor,
}

impl Crew {
    async fn hire(plane: &Plane) -> Self {
        let mut admin = plane.admin();
        let wanted = json!({"role": "gateway", "name": GATEWAY});
        let made = admin.call("POST", "/api/v1/tokens", Some(&wanted)).await;
        let token = made.unwrap().expect(201).json()["token"]
            .as_str()
            .unwrap()
            .to_owned();
        let doors = || Doors {
            admin: plane.admin(),
            gateway: plane.client(&token),
        };
        let hands = Hand::hire(&mut doors()).await;
        let mut crew = Self {
            hands: hands.into_iter().map(|hand| (hand, doors())).collect(),
            follower: Follower::new(plane.client(&token)),
            auditor: Auditor::default(),
        };
        // Control takes leases of gateways that it has seen.
        crew.follower.catch_up().await;
        crew
    }

    /// Everybody works until `kill`, which is called after this many acknowledged changes.
    async fn work_until_killed(self, changes: u64, kill: impl FnOnce(), tally: &mut Tally) -> Self {
        let (told, mut count) = watch::channel(0_u64);
        let mut working = JoinSet::new();
        for (mut hand, mut doors) in self.hands {
            let told = told.clone();
            working.spawn(async move {
                let how = loop {
                    match hand.write(&mut doors).await {
                        Ok(()) => told.send_modify(|count| *count += 1),
                        Err(how) => break how,
                    }
                };
                (hand, doors, how)
            });
        }
        let mut follower = self.follower;
        let listening = tokio::spawn(async move {
            follower.listen().await;
            follower
        });
        reached(&mut count, changes).await;
        kill();
        let mut hands = Vec::new();
        for (hand, doors, how) in working.join_all().await {
            tally.unanswered(&how);
            hands.push((hand, doors));
        }
        tally.acknowledged += *count.borrow();
        Self {
            hands,
            follower: listening.await.unwrap(),
            auditor: self.auditor,
        }
    }

    /// Compares everything that is there with what was acknowledged.
    async fn check(&mut self, tally: &mut Tally) {
        for (hand, doors) in &mut self.hands {
            tally.settled(hand.settle(doors).await.unwrap());
        }
        self.follower.catch_up().await;
        for (hand, _) in &self.hands {
            hand.is_served(&self.follower.mirror);
        }
        let (_, doors) = &mut self.hands[0];
        self.auditor.read_on(&mut doors.admin).await;
        for (hand, _) in &self.hands {
            if let Hand::Editor(editor) = hand {
                let known = self.auditor.version(&format!("policy acme/{}", editor.name));
                assert_eq!(known, Some(editor.version()), "{} in the history", editor.name);
            }
        }
    }

    /// The long look at the end: every version, every job, the chain from its beginning.
    async fn check_all(self) {
        let Self { hands, auditor, .. } = self;
        let mut hands = hands.into_iter();
        let (first, Doors { mut admin, .. }) = hands.next().expect("hands");
        let listed = jobs(&mut admin).await;
        for hand in std::iter::once(first).chain(hands.map(|(hand, _)| hand)) {
            match hand {
                Hand::Editor(editor) => editor.all_versions(&mut admin).await,
                Hand::Registrar(registrar) => {
                    let gone: Vec<_> = registrar
                        .jobs
                        .iter()
                        .filter(|id| !listed.contains_key(*id))
                        .collect();
                    assert!(gone.is_empty(), "jobs that were acknowledged are gone: {gone:?}");
                    let mut running = registrar.jobs.iter().filter(|id| listed[*id]);
                    assert_eq!(
                        running.next_back(),
                        registrar.jobs.last(),
                        "the last of a source's jobs runs"
                    );
                }
                Hand::Mover(_) | Hand::Blocker(_) => {}
            }
        }
        let mut again = Auditor::default();
        again.read_on(&mut admin).await;
        assert_eq!(
            again.head(),
            auditor.head(),
            "the log from its beginning, and as it grew"
        );
    }
}

/// Waits for so many changes.
async fn reached(count: &mut watch::Receiver<u64>, changes: u64) {
    let enough = count.wait_for(|count| *count >= changes);
    let enough = tokio::time::timeout(PATIENCE * 2, enough).await.is_ok();
    assert!(enough, "{} changes of {changes} in time", *count.borrow());
}

/// Every job, and whether it runs.
async fn jobs(admin: &mut Client) -> BTreeMap<String, bool> {
    let mut all = BTreeMap::new();
    let mut after = String::new();
    loop {
        let path = format!("/api/v1/jobs?limit=1000{after}");
        let page = admin.call("GET", &path, None).await.unwrap().expect(200).json();
        for job in page["items"].as_array().unwrap() {
            all.insert(job["id"].as_str().unwrap().to_owned(), job["ended_at"].is_null());
        }
        let Some(next) = page["next"].as_str() else {
            return all;
        };
        after = format!("&after={next}");
    }
}

/// Killed between any two instructions, a hundred times, with twelve writers at work.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn control_killed_a_hundred_times_mid_write_loses_nothing_that_was_acknowledged() {
    let mut plane = Plane::new(|_| "sqlite://control.db".into());
    plane.start().await;
    let mut crew = Crew::hire(&plane).await;
    let mut tally = Tally::default();
    for kill in 0..KILLS {
        // After the first change, in the thick of it, and all between.
        let changes = 1 + kill * 7 % 31;
        crew = crew.work_until_killed(changes, || plane.kill(), &mut tally).await;
        plane.start().await;
        crew.check(&mut tally).await;
    }
    crew.check_all().await;
    println!("{KILLS} kills: {tally:?}");
    assert!(
        tally.cut >= KILLS,
        "kills hit in the middle of changes: {tally:?}"
    );
}

/// What PostgreSQL goes through.
#[derive(Clone, Copy, Debug)]
enum Blow {
    /// `systemctl restart postgresql`.
    Restart,
    /// SIGKILL, and recovery from its log.
    Kill,
    /// It stays away until control has said so.
    Outage,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_restarted_under_load_is_come_back_from_and_loses_nothing_that_was_acknowledged() {
    let mut server = None;
    let mut plane = Plane::new(|folder| {
        let started = PostgresServer::start(folder.path().join("postgres")).unwrap();
        let url = started.url();
        server = Some(started);
        url
    });
    let mut server = server.expect("it was started");
    plane.start().await;
    let crew = Crew::hire(&plane).await;
    let (mut working, tally) = Shift::begin(crew);
    let mut admin = plane.admin();
    for blow in [Blow::Restart, Blow::Kill, Blow::Outage, Blow::Restart, Blow::Kill] {
        let before = working.some_more(SOME).await;
        server = working.strike(blow, server, &mut admin).await;
        // By themselves: nobody touched control.
        working.some_more(SOME).await;
        println!("{blow:?}: {before:?} before, {:?} after", *working.tally.borrow());
    }
    let mut crew = working.end().await;
    let mut tally = *tally.borrow();
    assert!(plane.is_running(), "{}", plane.log());
    crew.check(&mut tally).await;
    plane.kill();
    plane.start().await;
    crew.check(&mut tally).await;
    crew.check_all().await;
    println!("{tally:?}");
    assert!(tally.away > 0, "somebody met the outage: {tally:?}");
    assert_eq!(
        tally.cut, 0,
        "control answers whatever becomes of its database: {tally:?}"
    );
}

/// A crew at work over all that happens: each finds out itself what became of a change, as soon as it can.
struct Shift {
    working: JoinSet<(Hand, Doors)>,
    listening: tokio::task::JoinHandle<Follower>,
    auditor: Auditor,
    stop: watch::Sender<bool>,
    tally: watch::Receiver<Tally>,
}

impl Shift {
    fn begin(crew: Crew) -> (Self, watch::Receiver<Tally>) {
        let (told, tally) = watch::channel(Tally::default());
        let (stop, stopped) = watch::channel(false);
        let mut working = JoinSet::new();
        for (mut hand, mut doors) in crew.hands {
            let (told, stopped) = (told.clone(), stopped.clone());
            working.spawn(async move {
                while !*stopped.borrow() {
                    match hand.write(&mut doors).await {
                        Ok(()) => told.send_modify(|tally| tally.acknowledged += 1),
                        Err(how) => {
                            told.send_modify(|tally| tally.unanswered(&how));
                            let fate = settled(&mut hand, &mut doors).await;
                            told.send_modify(|tally| tally.settled(fate));
                        }
                    }
                }
                (hand, doors)
            });
        }
        let shift = Self {
            working,
            listening: tokio::spawn(crew.follower.listen_on(stopped)),
            auditor: crew.auditor,
            stop,
            tally: tally.clone(),
        };
        (shift, tally)
    }

    /// Waits for so many more changes; gives back what there was before.
    async fn some_more(&mut self, changes: u64) -> Tally {
        let before = *self.tally.borrow();
        self.until("changes to go through", |now| {
            now.acknowledged >= before.acknowledged + changes
        })
        .await;
        before
    }

    async fn until(&mut self, what: &str, enough: impl Fn(&Tally) -> bool) {
        let waited = tokio::time::timeout(RECOVERY, self.tally.wait_for(enough))
            .await
            .is_ok();
        assert!(waited, "waited for {what}; {:?}", *self.tally.borrow());
    }

    async fn strike(&mut self, blow: Blow, server: PostgresServer, admin: &mut Client) -> PostgresServer {
        match blow {
            Blow::Restart => beside(server, PostgresServer::restart).await,
            Blow::Kill => {
                let killed = beside(server, PostgresServer::kill).await;
                beside(killed, PostgresServer::restart).await
            }
            Blow::Outage => {
                let stopped = beside(server, PostgresServer::stop).await;
                let entry = json!({"pattern": "never.example.test", "reason": "a test"});
                let told = admin
                    .call("POST", "/api/v1/global-block/entries", Some(&entry))
                    .await;
                assert!(matches!(told, Err(Unanswered::Away)), "{told:?}");
                let told = admin.call("GET", "/readyz", None).await;
                assert!(matches!(told, Err(Unanswered::Away)), "{told:?}");
                beside(stopped, PostgresServer::restart).await
            }
        }
    }

    async fn end(self) -> Crew {
        self.stop.send_replace(true);
        Crew {
            hands: self.working.join_all().await,
            follower: self.listening.await.unwrap(),
            auditor: self.auditor,
        }
    }
}

/// Looks until the store can say what became of the open change.
async fn settled(hand: &mut Hand, doors: &mut Doors) -> Fate {
    let looking = async {
        loop {
            match hand.settle(doors).await {
                Ok(fate) => return fate,
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    };
    let fate = tokio::time::timeout(RECOVERY, looking).await;
    fate.expect("the store comes back")
}

/// Calls of the server block.
async fn beside(
    mut server: PostgresServer,
    call: fn(&mut PostgresServer) -> Result<(), tidegate_lab::LabError>,
) -> PostgresServer {
    let called = tokio::task::spawn_blocking(move || call(&mut server).map(|()| server));
    called.await.unwrap().unwrap()
}
