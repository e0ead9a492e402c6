//! Secrets never show (C9).
