//! What `proxy` asks of DNS without a client's query: the ECH configurations that a name publishes.

use tidegate_policy::judge::permit::QueryPermit;
use tidegate_policy::rulebook::Rulebook;
use tracing::debug;

use super::DnsHandler;
use crate::answer::share::Case;
use crate::resolver::Asked;
use crate::wire::rtype;

impl DnsHandler {
    /// Asks for the HTTPS record of a permitted name and notes the ECH ids that it publishes in the ledger
    /// of `book`. A name that can't be asked for publishes nothing that a client could have got either.
    pub async fn learn_ech(&self, permit: &QueryPermit, book: &Rulebook) {
        match self.resolver.lookup(permit, Asked::plain(rtype::HTTPS)).await {
            Ok(found) => {
                let case = Case {
                    book,
                    permit,
                    answer: &found.answer,
                };
                case.note_ech(|name| self.resolver.known_addresses(name));
            }
            Err(error) => debug!(name = %permit.name(), %error, "no HTTPS record to learn from"),
        }
    }
}
