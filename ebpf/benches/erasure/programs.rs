use crate::group::Group;
pub(crate) fn programs(_: &Group) {}
