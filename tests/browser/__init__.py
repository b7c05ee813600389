"""The page as people meet it: real Chromium on a real server, without a look inside."""
