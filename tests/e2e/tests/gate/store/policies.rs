//! Policies: every change of one is seen by the jobs that it governs, and by no other.

use tidegate_e2e::block;
use tidegate_e2e::store::Fleet;
use tidegate_lab::Lab;

#[tokio::test]
async fn two_repositories_behind_one_gateway_have_their_own_policies() {
    let lab = Lab::builder().control().build().unwrap();
    let fleet = Fleet::start(&lab).await;
    fleet
        .attached("web", &block(&["cdn-a.test:443"]), "repo:acme/web")
        .await;
    fleet
        .attached("api", &block(&["cdn-b.test:443"]), "repo:acme/api")
        .await;
    println!("{}", fleet.gateway().status().await.unwrap().1);
    println!("{}", fleet.register(0, "acme/web", "ci.yml").await);
    println!("{}", fleet.register(1, "acme/api", "ci.yml").await);
    fleet.reaches(0, "cdn-a.test").await;
    fleet.refused(0, "cdn-b.test").await;
    fleet.reaches(1, "cdn-b.test").await;
    fleet.refused(1, "cdn-a.test").await;
}
