//! Texts that may be secret, and so may stand in a file of their own, as secrets are mounted into containers.

/// What stands for a secret where the settings are printed.
pub(super) const HIDDEN: &str = "...hidden";

/// Reads a text, or what is in FILE where it is `file:FILE`.
pub(super) fn read(text: &str) -> Result<String, String> {
    if text.ends_with(HIDDEN) {
        return Err("it was hidden when the settings were printed: give the URL itself, or file:FILE".into());
    }
    let Some(path) = text.strip_prefix("file:") else {
        return Ok(text.to_owned());
    };
    let read = std::fs::read_to_string(path).map_err(|error| format!("{path} cannot be read: {error}"))?;
    match read.trim() {
        "" => Err(format!("{path} is empty")),
        secret => Ok(secret.to_owned()),
    }
}
