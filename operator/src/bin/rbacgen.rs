//! Prints the rules of the chart's roles, as kept in `charts/wsgateway/templates/_rules.tpl`.

fn main() {
    print!("{}", wsgateway_operator::rbac::template());
}
