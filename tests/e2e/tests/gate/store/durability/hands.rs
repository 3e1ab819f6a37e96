//! Those who write: each changes one thing after another and remembers what was acknowledged, so that afterwards it can
//! tell what must be there, what may be, and what must not.
//!
//! Each owns what it writes: nobody else changes it. One change at a time is open; whether it was carried out, when no
//! answer came, is found out by [`Hand::settle`], which fails the test when it was carried out by half.

mod blocks;
mod jobs;
mod policies;

use serde_json::Value;
use tidegate_control_wire::mirror::Mirror;

use self::blocks::Blocker;
use self::jobs::Registrar;
use self::policies::{Editor, Mover};
use super::super::plain::{Client, Unanswered};

/// How hands reach the control plane.
pub(super) struct Doors {
    pub(super) admin: Client,
    pub(super) gateway: Client,
}

/// What became of a change that was not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// There was none.
    None,
    /// It was carried out.
    Stored,
    /// It was not.
    Lost,
}

/// Somebody who writes.
pub(super) enum Hand {
    Editor(Editor),
    Mover(Mover),
    Registrar(Registrar),
    Blocker(Blocker),
}

impl Hand {
    /// Three of each kind, with what they work on.
    pub(super) async fn hire(doors: &mut Doors) -> Vec<Self> {
        let mut hands = Vec::new();
        for number in 0..3 {
            hands.push(Self::Editor(Editor::new(doors, number).await));
            hands.push(Self::Mover(Mover::new(doors, number).await));
            hands.push(Self::Registrar(Registrar::new(number)));
            hands.push(Self::Blocker(Blocker::new(number)));
        }
        hands
    }

    /// One more change; an error leaves it open.
    pub(super) async fn write(&mut self, doors: &mut Doors) -> Result<(), Unanswered> {
        match self {
            Self::Editor(hand) => hand.write(&mut doors.admin).await,
            Self::Mover(hand) => hand.write(&mut doors.admin).await,
            Self::Registrar(hand) => hand.write(&mut doors.gateway).await,
            Self::Blocker(hand) => hand.write(&mut doors.admin).await,
        }
    }

    /// Compares what is there with what was acknowledged, and finds out about the change that is open.
    pub(super) async fn settle(&mut self, doors: &mut Doors) -> Result<Fate, Unanswered> {
        match self {
            Self::Editor(hand) => hand.settle(&mut doors.admin).await,
            Self::Mover(hand) => hand.settle(&mut doors.admin).await,
            Self::Registrar(hand) => hand.settle(&mut doors.admin).await,
            Self::Blocker(hand) => hand.settle(&mut doors.admin).await,
        }
    }

    /// Compares what gateways hear with what is there. To be called when nothing is open.
    pub(super) fn is_served(&self, mirror: &Mirror) {
        match self {
            Self::Editor(hand) => hand.is_served(mirror),
            Self::Mover(hand) => hand.is_served(mirror),
            Self::Registrar(hand) => hand.is_served(mirror),
            Self::Blocker(hand) => hand.is_served(mirror),
        }
    }
}

fn id_of(thing: &Value) -> String {
    thing["id"].as_str().expect("an id").to_owned()
}
