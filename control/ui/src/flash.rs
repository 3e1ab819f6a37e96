//! What is said on the page after a change: one of these sentences, named by a code in a cookie that lives for one page.
//!
//! A code that is not here says nothing, so nobody can make a page say what they like.

/// Codes with their sentences. Add a line for each change a page makes.
const SAID: &[(&str, &str)] = &[
    ("signed-out", "You are signed out."),
    (
        "signed-out-here",
        "This browser is signed out, but its session could not be ended. It ends by itself within 12 hours; an admin can \
         end it before, in the settings.",
    ),
    (
        "policy-created",
        "The policy is made. No job follows it before it is attached.",
    ),
    ("policy-saved", "The change is saved. Gateways follow at once."),
    (
        "policy-attached",
        "The policy is attached. Gateways follow at once.",
    ),
    (
        "policy-detached",
        "The policy is detached there. Gateways follow at once.",
    ),
    (
        "policy-deleted",
        "The policy was deleted. Its history is among the deleted policies.",
    ),
    (
        "policy-rolled-back",
        "The older text is in force again, as a new version.",
    ),
    (
        "policy-imported",
        "The policy is made from what jobs reached. It holds for nobody before it is attached.",
    ),
    (
        "token-revoked",
        "The token is revoked. It is refused everywhere, and its sessions ended.",
    ),
    ("session-ended", "The session ended."),
    (
        "entry-added",
        "The entry is on the global block list. Gateways follow at once.",
    ),
    ("list-imported", "The list was imported. Gateways follow at once."),
    (
        "entry-removed",
        "The entry was removed from the global block list.",
    ),
    (
        "set-saved",
        "The endpoint set is saved. Policies that use it follow at once.",
    ),
    ("set-deleted", "The endpoint set was deleted."),
    (
        "detection-changed",
        "The detection is changed. The audit log says by whom.",
    ),
    (
        "detections-changed",
        "The detections are changed. The audit log says by whom.",
    ),
    (
        "rule-made",
        "The rule is made. What is new and covered by it is suppressed now.",
    ),
    ("rule-removed", "The rule was removed."),
    (
        "endpoint-allowed",
        "The policy allows it from its new version on.",
    ),
    (
        "endpoint-in-set",
        "The endpoint set has it now. Policies that use the set follow at once.",
    ),
    (
        "job-ended",
        "The lease has ended. Its addresses are nobody's any more.",
    ),
];

/// The sentence of a code.
pub(crate) fn said(code: &str) -> Option<&'static str> {
    SAID.iter()
        .find(|(known, _)| *known == code)
        .map(|(_, said)| *said)
}
