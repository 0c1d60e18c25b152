mod frames;
mod handshake;
