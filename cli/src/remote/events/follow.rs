//! Following events: a stream that is taken up again wherever it breaks off.
//!
//! Owns the position: the last id that the control plane said, which it is told when the stream is taken up again, so
//! that no event is lost or shown twice. It gives up only where another try does not mend anything.

use std::time::Duration;

use super::lines::Lines;
use super::show::Shown;
use super::{Query, asking, is_final};
use crate::remote::client::{CallError, Client};

/// The first pause before another try; each is twice the one before.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// The longest.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How long a stream may say nothing: it says every five seconds that it is alive.
const SILENCE: Duration = Duration::from_secs(20);

/// Longest text of a block, in bytes.
const MAX_DATA: usize = 1 << 20;

/// Why a stream ended.
enum End {
    /// The control plane ended it, or the connection broke.
    Broke(String),
    /// Nobody reads what is shown.
    Unread,
}

/// Shows events from a position on (from now on without one), until nobody wants to see more.
pub(super) async fn run(
    client: &Client,
    query: &Query,
    position: Option<u64>,
    shown: &mut Shown,
) -> anyhow::Result<()> {
    let mut last = position;
    // A position comes from a page that the control plane gave: it was there, and it knew who asks.
    let (mut ever, mut said) = (position.is_some(), false);
    let mut pause = FIRST_PAUSE;
    loop {
        let mut call = asking(client, &["events", "stream"], query)?;
        if let Some(last) = last {
            call = call.last_seen(last);
        }
        let reason = match call.open().await {
            Ok(response) => {
                if said {
                    eprintln!("tidegate: connected again");
                }
                (ever, said) = (true, false);
                let before = last;
                let lines = Lines::new(response, client).silence(SILENCE);
                let end = listen(lines, &mut last, shown).await;
                if last != before {
                    pause = FIRST_PAUSE;
                }
                match end {
                    Ok(End::Unread) => return Ok(()),
                    Ok(End::Broke(reason)) => reason,
                    Err(error) => error.to_string(),
                }
            }
            Err(error) if !ever || is_final(&error) => return Err(error.into()),
            Err(error) => error.to_string(),
        };
        if !said {
            eprintln!("tidegate: the stream broke off ({reason}); reconnecting");
            said = true;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Reads one stream to its end (WHATWG HTML §9.2.6).
async fn listen(mut lines: Lines<'_>, last: &mut Option<u64>, shown: &mut Shown) -> Result<End, CallError> {
    let (mut id, mut data) = (None, String::new());
    while let Some(line) = lines.next().await? {
        let (field, value) = line.split_once(':').unwrap_or((line.as_str(), ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "id" => id = value.parse().ok(),
            "data" if data.len() + value.len() > MAX_DATA => {
                return Ok(End::Broke("an event is longer than any event".to_owned()));
            }
            "data" => data.push_str(value),
            // The end of a block. What was cut off before it is sent again.
            "" if line.is_empty() => {
                if !data.is_empty() {
                    let event = match serde_json::from_str(&data) {
                        Ok(event) => event,
                        Err(error) => return Ok(End::Broke(format!("an event is no JSON: {error}"))),
                    };
                    if !shown.event(event) {
                        return Ok(End::Unread);
                    }
                    data.clear();
                }
                *last = id.or(*last);
            }
            // Comments, types and times to wait say nothing that is not known.
            _ => {}
        }
    }
    Ok(End::Broke("the control plane ended it".to_owned()))
}
