//! Texts that may be secret, and so may stand in a file of their own, as secrets are mounted into containers.

/// Reads a text, or what is in FILE where it is `file:FILE`.
pub(super) fn read(text: &str) -> Result<String, String> {
    let Some(path) = text.strip_prefix("file:") else {
        return Ok(text.to_owned());
    };
    let read = std::fs::read_to_string(path).map_err(|error| format!("{path} cannot be read: {error}"))?;
    match read.trim() {
        "" => Err(format!("{path} is empty")),
        secret => Ok(secret.to_owned()),
    }
}
