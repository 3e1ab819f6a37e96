//! From a person's groups to a role and its owners. Pure.

use tidegate_control_wire::secret::Role;

use crate::config::LoginGroup;

/// The strongest role that the groups give, limited to the owners of every entry that gives this role; not limited when
/// one of these entries is not. `None` when no group means anything here.
pub(super) fn strongest(groups: &[String], given: &[LoginGroup]) -> Option<(Role, Vec<String>)> {
    let mine = || given.iter().filter(|entry| groups.contains(&entry.group));
    let role = mine().map(|entry| entry.role).min_by_key(|role| rank(*role))?;
    let of_role: Vec<&LoginGroup> = mine().filter(|entry| entry.role == role).collect();
    if of_role.iter().any(|entry| entry.owners.is_empty()) {
        return Some((role, Vec::new()));
    }
    let mut owners: Vec<String> = of_role.iter().flat_map(|entry| entry.owners.clone()).collect();
    owners.sort_unstable();
    owners.dedup();
    Some((role, owners))
}

/// The strongest comes first. Machines' roles are never configured here.
fn rank(role: Role) -> u8 {
    match role {
        Role::Admin => 0,
        Role::Editor => 1,
        Role::Viewer => 2,
        Role::Gateway | Role::Provisioner | Role::Runner => u8::MAX,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(group: &str, role: Role, owners: &[&str]) -> LoginGroup {
        LoginGroup {
            group: group.into(),
            role,
            owners: owners.iter().map(|owner| (*owner).to_owned()).collect(),
        }
    }

    fn granted(groups: &[&str]) -> Option<(Role, Vec<String>)> {
        let given = [
            entry("everybody", Role::Viewer, &[]),
            entry("beta-devs", Role::Editor, &["beta"]),
            entry("acme-devs", Role::Editor, &["acme", "acme-labs"]),
            entry("more-devs", Role::Editor, &["acme"]),
            entry("acme-sec", Role::Admin, &["acme"]),
            entry("sec", Role::Admin, &[]),
        ];
        let groups: Vec<String> = groups.iter().map(|group| (*group).to_owned()).collect();
        strongest(&groups, &given)
    }

    #[test]
    fn the_strongest_role_counts_with_the_owners_of_all_that_give_it() {
        let owners = |owners: &[&str]| owners.iter().map(|owner| (*owner).to_owned()).collect::<Vec<_>>();
        assert_eq!(granted(&["everybody"]), Some((Role::Viewer, vec![])));
        let both = granted(&["beta-devs", "everybody", "acme-devs", "more-devs"]);
        assert_eq!(both, Some((Role::Editor, owners(&["acme", "acme-labs", "beta"]))));
        let limited = granted(&["acme-sec", "everybody", "beta-devs"]);
        assert_eq!(
            limited,
            Some((Role::Admin, owners(&["acme"]))),
            "a role's owners are its own"
        );
        assert_eq!(
            granted(&["acme-sec", "sec"]),
            Some((Role::Admin, vec![])),
            "one without limits"
        );
    }

    #[test]
    fn who_is_in_no_group_that_is_named_is_nobody() {
        assert_eq!(granted(&[]), None);
        for odd in ["SEC", "sec ", "se", "", "acme"] {
            assert_eq!(granted(&[odd]), None, "{odd}");
        }
    }
}
