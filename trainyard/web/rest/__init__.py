"""The REST API: what each verb of a person is over HTTP. Fields are those of the verbs' `--json`."""
