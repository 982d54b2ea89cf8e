pub fn run(_: &crate::args::DemoArgs) -> Result<(), crate::failure::Failure> {
    Ok(())
}
