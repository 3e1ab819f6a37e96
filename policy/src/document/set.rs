//! Endpoint sets: the lists that `use:` names, and hosts' `always-allow` lists.

use super::node::{Node, Value};
use super::reader::Reader;
use super::{EndpointSet, ParseOptions, Parsed};
use crate::endpoint::parse::Role;

const KEYS: [&str; 2] = ["endpoints", "description"];

pub(super) fn read(text: &str, options: ParseOptions) -> Parsed<EndpointSet> {
    Reader::run(text, options, endpoint_set)
}

fn endpoint_set(reader: &mut Reader<'_>, root: &Node) -> EndpointSet {
    let Value::Map(map) = &root.value else {
        return EndpointSet {
            endpoints: reader.endpoints(root, Role::Allowed),
        };
    };
    let mut endpoints = None;
    for (name, key, value) in reader.entries(map) {
        match name {
            "endpoints" => endpoints = Some(reader.endpoints(value, Role::Allowed)),
            "description" => {}
            unknown => reader.unknown_key(key, unknown, KEYS),
        }
    }
    if endpoints.is_none() {
        let hint = "an endpoint set is a list, or a mapping with the key `endpoints`";
        reader.error(root, "the endpoint set has no `endpoints`", Some(hint.into()));
    }
    EndpointSet {
        endpoints: endpoints.unwrap_or_default(),
    }
}
