"""What a training needs before anything is rented: parameters, memory, disk and time, reckoned from a base's config.json."""
