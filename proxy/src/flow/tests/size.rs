//! What a flow holds while it is idle: thousands of them are.

use std::sync::Arc;

use tokio::net::TcpStream;

use super::POLICY;
use crate::address::{ClientAddr, OriginalDst};
use crate::testing::{Bench, in_net, origin, stream};

/// Octets of a flow's own state, beside its places in tables.
const MOST: usize = 1_024;

#[test]
fn the_state_of_a_flow_is_small() {
    in_net(|| async {
        let (bench, listener) = (Bench::new(POLICY), origin("127.0.0.1:0").await);
        let address = listener.local_addr().unwrap();
        let (_runner, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        let flow = crate::flow::serve(
            Arc::clone(&bench.proxy),
            stream(accepted.unwrap().0),
            ClientAddr::new(address),
            OriginalDst::new(address),
        );
        let bytes = size_of_val(&flow);
        println!("{bytes} bytes a flow");
        assert!(bytes <= MOST, "{bytes} bytes");
    });
}
