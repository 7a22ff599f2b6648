//! The flags that say who reaches ports of a new sandbox from outside.

use warren_api::sandbox::CreateSandbox;

/// Who reaches its ports, and how.
#[derive(clap::Args, Debug, Default)]
pub(crate) struct ExposedArgs {
    /// A port that everybody reaches who knows its address, without a token; may be repeated.
    /// `warren port` prints the address
    #[arg(long = "public-port", value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    public_ports: Vec<u16>,
    /// Have visitors of public ports wake it while it is paused
    #[arg(long)]
    auto_resume: bool,
    /// What its servers see as the host that visitors ask for, such as `localhost:${PORT}`
    #[arg(long, value_name = "HOST")]
    mask_host: Option<String>,
}

impl ExposedArgs {
    /// Writes into the request what these flags say.
    pub(super) fn describe(self, request: &mut CreateSandbox) {
        let Self { public_ports, auto_resume, mask_host } = self;
        request.public_ports = public_ports;
        request.auto_resume = auto_resume;
        request.mask_request_host = mask_host;
    }
}
