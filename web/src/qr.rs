//! QR codes, for pages to draw.

use qrcodegen::{QrCode, QrCodeEcc};
use wasm_bindgen::prelude::*;

use crate::error::misuse;

/// The modules of a QR code, row by row: 1 is dark. The square root of the length is the side; leave a margin of four.
#[wasm_bindgen(js_name = qrCode)]
pub fn qr_code(text: &str) -> Result<Vec<u8>, JsValue> {
    let code = QrCode::encode_text(text, QrCodeEcc::Low)
        .map_err(|_| misuse("the text is too long for a QR code"))?;
    let side = code.size();
    let rows = (0..side).flat_map(|y| (0..side).map(move |x| (x, y)));
    Ok(rows.map(|(x, y)| u8::from(code.get_module(x, y))).collect())
}
