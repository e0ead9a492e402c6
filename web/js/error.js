/** Every failure of this package: what happened, in words (`message`) and as one word that stays the same (`code`). */
export class SealwireError extends Error {
  constructor(code, message, retryable, suspicious) {
    super(message);
    this.name = "SealwireError";
    this.code = code;
    this.retryable = retryable;
    this.suspicious = suspicious;
  }
}
