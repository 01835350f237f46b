"""Which tests of this folder other servers than the local one cannot pass, and why: each is skipped there with its reason."""

from __future__ import annotations

_VERSIONS = "only the local server's buckets are made with versions"
_SYNC = "only the local server's files are brought to disk by us"
_RULES = "it tries a store without lifecycle rules, and this one has them"
_CODE = "this server has another code for it (tried under that one, too)"
_NO_HEADERS = "this Ceph knows no checksum headers"
_NO_CONDITION = "this Ceph writes over an object in spite of If-None-Match where the bucket keeps versions"
_TOKEN = "this Ceph looks at no token that it has not given"

NOT_THERE: dict[str, dict[str, str]] = {
    "minio": {
        "test_a_wrong_key_is_not_called_somebody_elses_bucket[change1-InvalidAccessKeyId]": _CODE,
        "test_the_local_bucket_keeps_versions": _VERSIONS,
        "test_a_store_that_lies_for_good_never_gets_a_success[corrupt UploadPart]": _CODE,
        "test_an_answer_that_is_none_of_s3s_is_trouble_that_passes[CreateUpload-garble]": "the bit in the middle hits nothing that counts",
        "test_everything_is_on_disk_before_success_is_written": _SYNC,
        "test_a_store_that_answers_501_is_treated_as_one_without_lifecycle": _RULES,
        "test_rules_are_carried_out_where_the_store_carries_none_out": _RULES,
        "test_a_store_without_lifecycle_keeps_the_rules_as_an_object_and_says_so": _RULES,
    },
    "ceph": {
        "test_an_object_that_is_overwritten_meanwhile_is_taken_as_it_was_or_not_at_all": _NO_CONDITION,
        "test_a_wrong_key_is_not_called_somebody_elses_bucket[change1-InvalidAccessKeyId]": _CODE,
        "test_an_unknown_store_is_found_out_by_the_canary": _NO_HEADERS,
        "test_a_store_that_can_everything_says_so_and_nothing_is_left_behind_not_even_a_version": _NO_HEADERS,
        "test_the_table_fits_80_columns_and_says_what_each_verdict_means": _NO_HEADERS,
        "test_session_keys_that_end_before_the_lease_are_told_and_those_that_end_now_refused": _TOKEN,
        "test_the_local_bucket_keeps_versions": _VERSIONS,
        "test_an_answer_that_is_none_of_s3s_is_trouble_that_passes[ListParts-garble]": "its list of parts is short: no bit of it counts",
        "test_every_url_is_bound_to_its_bytes_and_sent_without_a_content_type": _NO_HEADERS,
        "test_everything_is_on_disk_before_success_is_written": _SYNC,
        "test_stores_with_weaker_checksums_are_proven_as_far_as_they_go[composite]": _NO_HEADERS,
        "test_a_store_that_answers_501_is_treated_as_one_without_lifecycle": _RULES,
        "test_rules_are_carried_out_where_the_store_carries_none_out": _RULES,
        "test_a_store_without_lifecycle_keeps_the_rules_as_an_object_and_says_so": _RULES,
        "test_open_uploads_are_listed_with_their_bytes_and_dropped_by_prefix": "this Ceph lists an upload twice now and then",
        "test_what_came_home_is_committed_as_the_pod_would_have[composite]": _NO_HEADERS,
        "test_what_came_home_is_committed_as_the_pod_would_have[full]": _NO_HEADERS,
    },
}
