"""Options of ansible-playbook that are not here, and what to say instead."""

_NO_PASSWORD = "Passwords are not taken: log in by a key, and let sudo ask for none."
OPTIONS = {
    **dict.fromkeys(("-k", "--ask-pass", "-K", "--ask-become-pass"), _NO_PASSWORD),
    **dict.fromkeys(("-J", "--ask-vault-pass", "--vault-id"), "Use --vault-password-file FILE; FILE may be a program that asks."),
    **dict.fromkeys(("-c", "--connection"), "Write 'connection: local' in the play, or name no host: then it is this machine."),
    "--private-key": "Write IdentityFile into ~/.ssh/config, or ansible_ssh_private_key_file into the inventory.",
    "--force-handlers": "Write 'force_handlers: true' in the play.",
    "--step": "Use --start-at-task NAME, or --check to see what would be done.",
}
